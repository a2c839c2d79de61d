//! Links, addresses and routes over rtnetlink, and sysctls: observed and changed.

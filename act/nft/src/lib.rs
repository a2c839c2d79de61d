//! nftables and conntrack over nfnetlink: listed, changed in transactions, watched.

//! Accept rules in the legacy iptables FORWARD chains, without the iptables binary.

//! The CNI protocol: requests, network configurations, results, errors.

//! nftables tables as typed values: shown as nft prints them, compared, turned into transactions.

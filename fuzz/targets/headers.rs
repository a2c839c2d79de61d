#![no_main]
//! Searches for bytes that the reader of that name can't take.

use selvedge_fuzz::headers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| headers(bytes));

#![no_main]

libfuzzer_sys::fuzz_target!(
    init: larder_fuzz::sow("session"),
    |data: &[u8]| larder_fuzz::session(data)
);

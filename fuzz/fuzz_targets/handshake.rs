#![no_main]

libfuzzer_sys::fuzz_target!(
    init: larder_fuzz::sow("handshake"),
    |data: &[u8]| larder_fuzz::handshake(data)
);

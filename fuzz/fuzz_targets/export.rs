#![no_main]

libfuzzer_sys::fuzz_target!(
    init: larder_fuzz::sow("export"),
    |data: &[u8]| larder_fuzz::export(data)
);

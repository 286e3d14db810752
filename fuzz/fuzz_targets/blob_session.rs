#![no_main]

libfuzzer_sys::fuzz_target!(init: larder_fuzz::sow("blob_session"), |data: &[u8]| larder_fuzz::blob_session(data));

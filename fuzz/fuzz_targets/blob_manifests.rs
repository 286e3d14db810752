#![no_main]

libfuzzer_sys::fuzz_target!(init: larder_fuzz::sow("blob_manifests"), |data: &[u8]| larder_fuzz::blob_manifests(data));

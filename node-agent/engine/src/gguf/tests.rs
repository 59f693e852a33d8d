use super::*;
use proptest::prelude::*;
use rstest::rstest;

/// Builds files byte by byte, wrong ones included.
#[derive(Clone, Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn text(self, text: &str) -> Self {
        let mut bytes = self.u64(text.len() as u64);
        bytes.0.extend(text.as_bytes());
        bytes
    }

    fn header(tensors: u64, keys: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(3).u64(tensors).u64(keys)
    }

    fn tensor(self, name: &str, dimensions: &[u64], type_id: u32, offset: u64) -> Self {
        let mut bytes = self.text(name).u32(dimensions.len() as u32);
        for dimension in dimensions {
            bytes = bytes.u64(*dimension);
        }
        bytes.u32(type_id).u64(offset)
    }

    fn data(mut self, size: usize) -> Self {
        let start = self.0.len().next_multiple_of(32);
        self.0.resize(start + size, 0);
        self
    }
}

fn sound() -> Vec<u8> {
    let file = Bytes::header(2, 4)
        .text("general.architecture")
        .u32(8)
        .text("llama")
        .text("n")
        .u32(4)
        .u32(7)
        .text("names")
        .u32(9)
        .u32(8)
        .u64(2)
        .text("a")
        .text("b")
        .text("numbers")
        .u32(9)
        .u32(5)
        .u64(2)
        .u32(1)
        .u32(u32::MAX);
    let file = file.tensor("x", &[32, 2], 8, 0).tensor("y", &[3], 0, 96);
    file.data(96 + 12).0
}

#[test]
fn a_sound_file_is_read() {
    let bytes = sound();
    let header = parse(&bytes).expect("sound");
    let metadata = &header.metadata;
    assert_eq!(metadata.text("general.architecture"), Some("llama"));
    assert_eq!(metadata.unsigned("n"), Some(7));
    assert_eq!(metadata.strings("names").map(<[String]>::len), Some(2));
    assert_eq!(metadata.integers("numbers"), Some(vec![1, -1]));
    let x = &header.tensors["x"];
    assert_eq!((x.cols, x.rows, x.range.len()), (32, 2, 68));
    assert_eq!(header.tensors["y"].range.end, bytes.len());
    let file = GgufFile::from_bytes(bytes).expect("sound");
    assert_eq!(file.tensor("x").expect("x").row(1).len(), 34);
    assert!(file.tensor("z").is_none());
}

#[rstest]
#[case::empty(Bytes::default(), "not a GGUF file")]
#[case::other_magic(Bytes(b"GGML".to_vec()).u32(3), "not a GGUF file")]
#[case::old_version(Bytes(b"GGUF".to_vec()).u32(1).u64(0).u64(0), "version 1")]
#[case::no_counts(Bytes(b"GGUF".to_vec()).u32(3), "ends inside")]
#[case::many_tensors(Bytes::header(u64::MAX, 0), "the tensor count is")]
#[case::many_keys(Bytes::header(0, 1 << 40), "the key count is")]
#[case::long_key(Bytes::header(0, 1).u64(u64::MAX).u64(0), "a key is")]
#[case::unknown_value(Bytes::header(0, 1).text("k").u32(13).u64(0), "unknown value type 13")]
#[case::nested_array(Bytes::header(0, 1).text("k").u32(9).u32(9).u64(1).u64(0), "unknown value type 9")]
#[case::long_array(Bytes::header(0, 1).text("k").u32(9).u32(10).u64(1 << 61), "an array's length is")]
#[case::array_of_strings(Bytes::header(0, 1).text("k").u32(9).u32(8).u64(3).u64(0), "an array's length is")]
#[case::same_key(Bytes::header(0, 2).text("k").u32(4).u32(1).text("k").u32(4).u32(1), "key k occurs twice")]
#[case::alignment(Bytes::header(0, 1).text("general.alignment").u32(4).u32(3), "alignment 3")]
#[case::no_dimension(Bytes::header(1, 0).tensor("t", &[], 0, 0).data(64), "dimensions")]
#[case::five_dimensions(Bytes::header(1, 0).tensor("t", &[1; 5], 0, 0).data(64), "dimensions")]
#[case::empty_dimension(Bytes::header(1, 0).tensor("t", &[4, 0], 0, 0).data(64), "zero")]
#[case::overflow(Bytes::header(1, 0).tensor("t", &[1 << 32, 1 << 32, 4], 0, 0).data(64), "overflow")]
#[case::large_size(Bytes::header(1, 0).tensor("t", &[1 << 62], 0, 0).data(64), "overflow")]
#[case::unknown_type(Bytes::header(1, 0).tensor("t", &[32], 16, 0).data(64), "type 16")]
#[case::half_a_block(Bytes::header(1, 0).tensor("t", &[33], 2, 0).data(64), "blocks")]
#[case::unaligned(Bytes::header(1, 0).tensor("t", &[4], 0, 8).data(64), "aligned")]
#[case::beyond_the_end(Bytes::header(1, 0).tensor("t", &[4], 0, 64).data(64), "beyond the end")]
#[case::far_offset(Bytes::header(1, 0).tensor("t", &[4], 0, u64::MAX - 31).data(64), "overflow")]
#[case::same_tensor(Bytes::header(2, 0).tensor("t", &[4], 0, 0).tensor("t", &[4], 0, 0).data(64), "tensor t occurs twice")]
fn a_malformed_file_is_refused_with_what_is_wrong(#[case] bytes: Bytes, #[case] message: &str) {
    let error = parse(&bytes.0).expect_err("malformed").to_string();
    assert!(error.contains(message), "{error}");
}

proptest! {
    #[test]
    fn a_truncated_file_is_an_error(cut in 0usize..400) {
        let bytes = sound();
        let cut = cut.min(bytes.len() - 1);
        prop_assert!(parse(&bytes[..cut]).is_err());
    }

    #[test]
    fn any_changed_byte_is_an_error_or_a_header_within_the_file(
        changes in prop::collection::vec((0usize..400, any::<u8>()), 1..6),
    ) {
        let mut bytes = sound();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if let Ok(header) = parse(&bytes) {
            for tensor in header.tensors.values() {
                prop_assert!(tensor.range.end <= bytes.len());
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = parse(&bytes);
        let mut with_magic = b"GGUF\x03\0\0\0".to_vec();
        with_magic.extend(bytes);
        let _ = parse(&with_magic);
    }
}

use super::*;
use crate::memory;
use std::io::Write;

/// An archive in PyTorch's form with this pickle and one storage of 4 numbers.
fn archive(pickle: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let numbers: Vec<u8> = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|number| number.to_le_bytes()).collect();
    for (name, content) in [("m/data.pkl", pickle), ("m/byteorder", b"little"), ("m/data/0", &numbers)] {
        zip.start_file(name, options).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A pickle of `{"w": tensor}` with this shape, these strides, and an offset into the storage in numbers.
fn state(offset: u8, shape: [u8; 2], strides: [u8; 2]) -> Vec<u8> {
    let mut code =
        b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n".to_vec();
    code.extend(b"X\x01\0\0\x000X\x03\0\0\0cpuK\x04tQK");
    code.extend([offset, b'K', shape[0], b'K', shape[1], 0x86, b'K', strides[0], b'K', strides[1], 0x86, 0x89]);
    code.extend(b"ccollections\nOrderedDict\n)RtRs.");
    code
}

fn refusal(pickle: &[u8]) -> String {
    tensors(&archive(pickle)).unwrap_err().to_string()
}

#[test]
fn a_tensor_is_found_where_it_lies() {
    let bytes = archive(&state(1, [1, 2], [2, 1]));
    let [tensor] = &tensors(&bytes).unwrap()[..] else { panic!("one tensor") };
    assert_eq!((tensor.name.as_str(), tensor.dtype, tensor.shape.as_slice()), ("w", Dtype::F32, &[1, 2][..]));
    assert_eq!(bytes[tensor.start..][..4], 2f32.to_le_bytes(), "the second number");
}

#[test]
fn a_tensor_that_leaves_its_storage_is_refused() {
    assert!(tensors(&archive(&state(0, [2, 2], [2, 1]))).is_ok());
    for (offset, shape, strides) in [(1, [2, 2], [2, 1]), (0, [2, 2], [3, 1]), (0, [3, 2], [2, 1]), (4, [1, 1], [1, 1])]
    {
        let told = refusal(&state(offset, shape, strides));
        assert!(told.starts_with("tensor w: shape") && told.contains("beyond its storage"), "{told}");
    }
    assert!(tensors(&archive(&state(9, [0, 2], [2, 1]))).is_ok(), "nothing lies nowhere");
}

#[test]
fn no_function_but_those_of_tensors_is_known() {
    for (module, name) in
        [("os", "system"), ("builtins", "eval"), ("torch", "load"), ("torch._utils", "_rebuild_qtensor")]
    {
        let told = refusal(format!("c{module}\n{name}\n(X\u{1}\0\0\0xtR.").as_bytes());
        assert!(told.contains(&format!("{module}.{name}")) && told.contains("nothing of it was executed"), "{told}");
    }
    // The same with the other instruction that names functions.
    let told = refusal(b"\x80\x04\x8c\x02os\x8c\x06system\x93(\x8c\x01xtR.");
    assert!(told.contains("os.system"), "{told}");
}

#[test]
fn damage_is_an_error_and_never_a_panic() {
    let whole = state(0, [2, 2], [2, 1]);
    for cut in 0..whole.len() {
        assert!(tensors(&archive(&whole[..cut])).is_err(), "cut at {cut}");
    }
    for at in 0..whole.len() {
        for value in 0..=255 {
            let mut changed = whole.clone();
            changed[at] = value;
            let _ = tensors(&archive(&changed));
        }
    }
    assert!(refusal(b"\x80\x02}q\0h\0h\0h\0.").contains("no named tensors"));
    assert!(tensors(b"no archive").unwrap_err().to_string().contains("not a PyTorch archive"));
}

#[test]
fn what_grows_without_end_is_stopped() {
    // A dictionary that contains itself.
    let told = refusal(b"}q\0X\x01\0\0\0ah\0s.");
    assert!(told.contains("nested too deeply"), "{told}");
    // Each of 30 dictionaries contains the next one twice.
    let mut code = b"}q\0".to_vec();
    for level in 1..30u8 {
        code.extend([b'}', b'q', level]);
        for key in [b'a', b'b'] {
            code.extend([b'X', 1, 0, 0, 0, key, b'h', level - 1, b's']);
        }
    }
    code.push(b'.');
    assert!(refusal(&code).contains("nested too deeply"));
}

#[test]
fn compressed_members_are_refused() {
    // The ZIP writer in this test cannot compress, so the method is set by hand in both headers of the first member.
    let mut bytes = archive(&state(0, [2, 2], [2, 1]));
    let central = bytes.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    bytes[8] = 8;
    bytes[central + 10] = 8;
    let told = tensors(&bytes).unwrap_err().to_string();
    assert!(told.contains("m/data.pkl is compressed"), "{told}");
}

/// The most bytes that are held at one time while an archive with this pickle is read.
fn held(pickle: &[u8]) -> usize {
    let bytes = archive(pickle);
    memory::held(|| _ = tensors(&bytes))
}

/// A pickle may take four times its length in memory, whatever its content; one of 4 MiB took half a gigabyte.
#[test]
fn a_pickle_of_four_mebibytes_took_half_a_gigabyte() {
    let full = MAX_PICKLE_BYTES as usize - 1;
    let filled = |start: &[u8], part: &[u8]| {
        let mut code = start.to_vec();
        while code.len() + part.len() <= full {
            code.extend(part);
        }
        code.push(b'.');
        code
    };
    // A tensor, from which each repetition makes another. The memo holds 0 the function and 1 its arguments.
    let mut tensor = b"ctorch._utils\n_rebuild_tensor_v2\nq\0(".to_vec();
    tensor.extend(b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ");
    tensor.extend(b"K\0(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01t(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01ttq\x01");
    let long = [&b"X"[..], &500u32.to_le_bytes(), &[b'n'; 500], b"q\0}q\x01"].concat();
    let cases: [(&str, Vec<u8>); 9] = [
        ("nothing, over and over", filled(b"", b"N")),
        ("empty tuples", filled(b"", b")")),
        ("marks", filled(b"", b"(")),
        ("marked tuples", filled(b"NNNN", b"(t0")),
        ("lists of lists", filled(b"]q\0", b"h\0a")),
        ("one tensor again and again", filled(&tensor, b"h\0h\x01R")),
        ("kept under many numbers", {
            let mut code = b"N".to_vec();
            for number in 0..(full - 2) as u32 / 5 {
                code.push(b'r');
                code.extend(number.to_le_bytes());
            }
            code.push(b'.');
            code
        }),
        ("copies of a list", filled(b"ccollections\nOrderedDict\nq\0]q\x01(NNt\x85(h\x01NN", b"h\0h\x01\x85R0")),
        ("a long name for every key", filled(&long, b"h\0h\x01s")),
    ];
    for (what, code) in cases {
        let held = held(&code);
        println!("{what}: {} bytes of pickle, {held} held", code.len());
        assert!(held <= 4 * code.len(), "{what}: {held} bytes for {}", code.len());
    }
    assert!(held(&state(0, [2, 2], [2, 1])) > 0, "the measurement itself is broken");
}

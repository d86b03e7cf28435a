//! However a stream is cut into chunks, its blocks are the same, and concatenated they are the stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::wire::sse::Scanner;

fn blocks(chunks: &[&[u8]]) -> (Vec<Option<Vec<u8>>>, Vec<u8>) {
    let (mut scanner, mut data, mut raw) = (Scanner::new(), Vec::new(), Vec::new());
    let mut each = |block: tollgate::wire::sse::Block<'_>| {
        raw.extend_from_slice(block.raw());
        // The line feed of a CRLF may be a block by itself.
        data.extend(block.data().map(|data| Some(data.to_vec())));
    };
    for chunk in chunks {
        scanner.push(chunk, &mut each).expect("below the cap");
    }
    let whole = scanner.finish(&mut each);
    if whole.is_err() {
        raw.extend_from_slice(scanner.pending());
    }
    (data, raw)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, stream) = input;
    let (whole, raw) = blocks(&[stream]);
    let cut = blocks(&stream.chunks(usize::from(size).max(1)).collect::<Vec<_>>());
    assert_eq!(raw, stream);
    assert_eq!(cut, (whole, raw));
});

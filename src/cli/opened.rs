//! Text files in the forms that tools write: packed, in UTF-16, with the line ends of old Macs. Other forms are refused by name: an unread
//! file must not look like one without a hit.

use super::Failure;
use std::io::{self, Cursor, Read};

/// Bytes at the start of a file that show its form.
const START_BYTES: usize = 8 * 1024;

/// Reads `reader` as UTF-8 with line feeds, whatever form its first bytes show. Answers whether the length changes with it.
pub(super) fn opened(mut reader: Box<dyn Read + Send>, name: &str) -> Result<(Box<dyn Read + Send>, bool), Failure> {
    let start = beginning(&mut reader, name)?;
    let gzip = start.starts_with(&[0x1f, 0x8b]);
    let whole: Box<dyn Read + Send> = Box::new(Cursor::new(start.clone()).chain(reader));
    if !gzip {
        return text(whole, &start, name, false);
    }
    let mut inner: Box<dyn Read + Send> = Box::new(flate2::read::MultiGzDecoder::new(whole));
    let start = beginning(&mut inner, name)?;
    let whole: Box<dyn Read + Send> = Box::new(Cursor::new(start.clone()).chain(inner));
    text(whole, &start, name, true)
}

fn beginning(reader: &mut dyn Read, name: &str) -> Result<Vec<u8>, Failure> {
    let mut start = vec![0; START_BYTES];
    // One read: a log that is being written may have no more yet.
    let count = loop {
        match reader.read(&mut start) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            other => break other.map_err(|error| Failure::environment(format!("{name}: {error}")))?,
        }
    };
    start.truncate(count);
    Ok(start)
}

fn text(whole: Box<dyn Read + Send>, start: &[u8], name: &str, packed: bool) -> Result<(Box<dyn Read + Send>, bool), Failure> {
    const PACKED: [(&[u8], &str, &str); 7] = [
        (b"\xfd7zXZ\0", "xz", "xz -dc"),
        (b"BZh", "bzip2", "bzip2 -dc"),
        (b"\x28\xb5\x2f\xfd", "zstd", "zstd -dc"),
        (b"\x04\x22\x4d\x18", "lz4", "lz4 -dc"),
        (b"PK\x03\x04", "zip", "unzip -p"),
        (b"7z\xbc\xaf\x27\x1c", "7z", "7z x -so"),
        (b"ElfFile\0", "a Windows event log", "evtx_dump.py"),
    ];
    if let Some((_, form, command)) = PACKED.iter().find(|(magic, _, _)| start.starts_with(magic)) {
        return Err(Failure::usage(format!(
            "{name} is {form}, which is not read; unpack it into this command: {command} {name} | huecry ... -"
        )));
    }
    let encoding = match start {
        [0xff, 0xfe, ..] => Some(encoding_rs::UTF_16LE),
        [0xfe, 0xff, ..] => Some(encoding_rs::UTF_16BE),
        // Without a mark: text of mostly ASCII has a zero in every second byte.
        _ => zeros(start),
    };
    if let Some(encoding) = encoding {
        let decoding = encoding_rs_io::DecodeReaderBytesBuilder::new().encoding(Some(encoding)).bom_override(true).build(whole);
        return Ok((Box::new(decoding), true));
    }
    if start.contains(&0) {
        return Err(Failure::usage(format!("{name}: there are zero bytes in it, so it is not text; unpack or convert it first")));
    }
    let old_mac = start.contains(&b'\r') && !start.contains(&b'\n');
    if old_mac { Ok((Box::new(LineFeeds(whole)), packed)) } else { Ok((whole, packed)) }
}

fn zeros(start: &[u8]) -> Option<&'static encoding_rs::Encoding> {
    let (even, odd) = start
        .chunks_exact(2)
        .fold((0, 0), |(even, odd), pair| (even + usize::from(pair.first() == Some(&0)), odd + usize::from(pair.last() == Some(&0))));
    let pairs = start.len() / 2;
    match () {
        () if pairs < 4 => None,
        () if odd * 10 > pairs * 7 && even * 10 < pairs => Some(encoding_rs::UTF_16LE),
        () if even * 10 > pairs * 7 && odd * 10 < pairs => Some(encoding_rs::UTF_16BE),
        () => None,
    }
}

/// Carriage returns as line feeds.
struct LineFeeds<R>(R);

impl<R: Read> Read for LineFeeds<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(into)?;
        into.iter_mut().take(count).filter(|byte| **byte == b'\r').for_each(|byte| *byte = b'\n');
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<String, String> {
        let (mut reader, _) = opened(Box::new(Cursor::new(bytes.to_vec())), "FILE").map_err(|failure| failure.text)?;
        let mut text = String::new();
        reader.read_to_string(&mut text).map_err(|error| error.to_string())?;
        Ok(text)
    }

    #[test]
    fn a_text_is_read_in_any_form_or_refused_by_its_name() {
        let lines = "a.example\nb\u{fc}cher.example\n";
        let units = |order: fn(u16) -> [u8; 2]| lines.encode_utf16().flat_map(order).collect::<Vec<u8>>();
        assert_eq!(read(lines.as_bytes()).unwrap(), lines);
        for (mark, order) in [
            (&[0xff, 0xfe][..], u16::to_le_bytes as fn(u16) -> [u8; 2]),
            (&[0xfe, 0xff], u16::to_be_bytes),
            (&[], u16::to_le_bytes),
            (&[], u16::to_be_bytes),
        ] {
            assert_eq!(read(&[mark, &units(order)].concat()).unwrap(), lines);
        }
        assert_eq!(read(b"a.example\rb.example\r").unwrap(), "a.example\nb.example\n");
        let packed = |text: &[u8]| {
            let mut packing = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            io::Write::write_all(&mut packing, text).unwrap();
            packing.finish().unwrap()
        };
        // Several members are one file.
        assert_eq!(read(&[packed(b"a.example\n"), packed(b"b.example\n")].concat()).unwrap(), "a.example\nb.example\n");
        assert_eq!(read(&packed(&units(u16::to_le_bytes))).unwrap(), lines);
        for (bytes, why) in [
            (&b"\xfd7zXZ\0\0"[..], "xz -dc"),
            (b"BZh91AY", "bzip2"),
            (b"\x28\xb5\x2f\xfd\0", "zstd"),
            (b"PK\x03\x04", "zip"),
            (b"MZ\x90\0\x03\0", "not text"),
        ] {
            assert!(read(bytes).unwrap_err().contains(why), "{why}");
        }
    }
}

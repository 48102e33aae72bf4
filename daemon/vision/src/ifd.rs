//! The directories of a TIFF file or of EXIF data, which have the same form: tags with values, in either byte order,
//! TIFF or BigTIFF.
//!
//! Nothing is decoded here.

/// Most values of a tag that are read; the offsets of tiles are the longest list. [choice]
const MOST_VALUES: u64 = 1 << 20;
/// Most tags of a directory that are read. [choice]
const MOST_TAGS: u64 = 4096;

/// The bytes end before the requested value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

/// A file with directories.
#[derive(Clone, Copy)]
pub struct Directories<'a> {
    bytes: &'a [u8],
    little_endian: bool,
    big: bool,
}

/// The tags of one directory.
pub struct Directory<'a> {
    file: Directories<'a>,
    entries: Vec<Entry>,
    /// Offset of the next directory; 0 if there is none.
    pub next: u64,
}

#[derive(Clone, Copy)]
struct Entry {
    tag: u16,
    kind: u16,
    count: u64,
    /// Offset of the values.
    at: u64,
}

impl<'a> Directories<'a> {
    /// The file and the offset of its first directory. `None` where the first bytes are not those of a TIFF.
    pub fn open(bytes: &'a [u8]) -> Option<Result<(Self, u64), Truncated>> {
        let little_endian = match bytes.get(..2)? {
            b"II" => true,
            b"MM" => false,
            _ => return None,
        };
        let mut file = Self { bytes, little_endian, big: false };
        let magic = match file.number(2, 2) {
            Ok(magic) => magic,
            Err(cut) => return Some(Err(cut)),
        };
        file.big = match magic {
            42 => false,
            43 => true,
            _ => return None,
        };
        let first = if file.big { file.number(8, 8) } else { file.number(4, 4) };
        Some(first.map(|first| (file, first)))
    }

    /// The directory that begins at an offset.
    ///
    /// # Errors
    /// [`Truncated`] where the directory is not completely in the bytes.
    pub fn directory(&self, at: u64) -> Result<Directory<'a>, Truncated> {
        let (count_bytes, entry_bytes, word) = if self.big { (8, 20, 8) } else { (2, 12, 4) };
        let count = self.number(at, count_bytes)?;
        let first = at + count_bytes;
        let mut entries = Vec::new();
        for index in 0..count.min(MOST_TAGS) {
            let entry = first + index * entry_bytes;
            let kind = self.number(entry + 2, 2)? as u16;
            let count = self.number(entry + 4, word)?;
            let value = entry + 4 + word;
            let fits = count.checked_mul(size(kind)).is_some_and(|bytes| bytes <= word);
            let at = if fits { value } else { self.number(value, word)? };
            entries.push(Entry { tag: self.number(entry, 2)? as u16, kind, count, at });
        }
        // A file may end after its last directory, without the offset of a next one.
        let next = count.checked_mul(entry_bytes).and_then(|length| self.number(first.checked_add(length)?, word).ok());
        Ok(Directory { file: *self, entries, next: next.unwrap_or(0) })
    }

    /// The single-byte changes (offset and value) that make the directory at `at` the first one.
    pub fn with_first(&self, at: u64) -> Vec<(u64, u8)> {
        let (place, length) = if self.big { (8, 8) } else { (4, 4) };
        self.as_written(place, length, at)
    }

    fn as_written(&self, place: u64, length: u64, number: u64) -> Vec<(u64, u8)> {
        let bytes = number.to_le_bytes();
        let digits = bytes.iter().take(length as usize).copied();
        let digits: Vec<u8> = if self.little_endian { digits.collect() } else { digits.rev().collect() };
        (place..).zip(digits).collect()
    }

    /// An unsigned number of `bytes` bytes.
    fn number(&self, at: u64, bytes: u64) -> Result<u64, Truncated> {
        let start = usize::try_from(at).map_err(|_| Truncated)?;
        let end = start.checked_add(bytes as usize).ok_or(Truncated)?;
        let digits = self.bytes.get(start..end).ok_or(Truncated)?;
        let fold = |number: u64, &digit: &u8| number << 8 | u64::from(digit);
        Ok(if self.little_endian { digits.iter().rev().fold(0, fold) } else { digits.iter().fold(0, fold) })
    }
}

impl<'a> Directory<'a> {
    pub fn has(&self, tag: u16) -> bool {
        self.entries.iter().any(|entry| entry.tag == tag)
    }

    /// Number of values of a tag.
    pub fn count(&self, tag: u16) -> u64 {
        self.entries.iter().find(|entry| entry.tag == tag).map_or(0, |entry| entry.count)
    }

    /// The single-byte changes (offset and value) that give a tag another value.
    pub fn with_value(&self, tag: u16, value: u64) -> Vec<(u64, u8)> {
        let of_entry = |entry: &Entry| self.file.as_written(entry.at, size(entry.kind), value);
        self.entries.iter().find(|entry| entry.tag == tag).map(of_entry).unwrap_or_default()
    }

    /// The bytes of a tag that is not a number.
    ///
    /// # Errors
    /// [`Truncated`] where the bytes are beyond the end.
    pub fn bytes(&self, tag: u16) -> Result<Option<&'a [u8]>, Truncated> {
        let Some(entry) = self.entries.iter().find(|entry| entry.tag == tag) else { return Ok(None) };
        let start = usize::try_from(entry.at).map_err(|_| Truncated)?;
        let end = usize::try_from(entry.count).ok().and_then(|count| start.checked_add(count)).ok_or(Truncated)?;
        self.file.bytes.get(start..end).map(Some).ok_or(Truncated)
    }

    /// The integers of a tag, of any integer type; empty where the tag is absent or has another type.
    ///
    /// # Errors
    /// [`Truncated`] where the values are beyond the end.
    pub fn integers(&self, tag: u16) -> Result<Vec<u64>, Truncated> {
        let Some(entry) = self.entries.iter().find(|entry| entry.tag == tag) else { return Ok(Vec::new()) };
        if !matches!(entry.kind, BYTE | SHORT | LONG | SIGNED_BYTE | SIGNED_SHORT | SIGNED_LONG | IFD | LONG8 | IFD8) {
            return Ok(Vec::new());
        }
        let size = size(entry.kind);
        let at = |index: u64| index.checked_mul(size).and_then(|offset| entry.at.checked_add(offset)).ok_or(Truncated);
        (0..entry.count.min(MOST_VALUES)).map(|index| self.file.number(at(index)?, size)).collect()
    }

    /// The first integer of a tag.
    ///
    /// # Errors
    /// [`Truncated`] where the value is beyond the end.
    pub fn integer(&self, tag: u16) -> Result<Option<u64>, Truncated> {
        Ok(self.integers(tag)?.first().copied())
    }
}

const BYTE: u16 = 1;
const SHORT: u16 = 3;
const LONG: u16 = 4;
const SIGNED_BYTE: u16 = 6;
const SIGNED_SHORT: u16 = 8;
const SIGNED_LONG: u16 = 9;
const IFD: u16 = 13;
const LONG8: u16 = 16;
const IFD8: u16 = 18;

/// Bytes per value of a type.
fn size(kind: u16) -> u64 {
    match kind {
        SHORT | SIGNED_SHORT => 2,
        LONG | SIGNED_LONG | IFD | 11 => 4,
        5 | 10 | 12 | LONG8 | 17 | IFD8 => 8,
        _ => 1,
    }
}

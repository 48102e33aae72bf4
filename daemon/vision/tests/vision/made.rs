//! Builds files by hand that no available encoder writes.

/// A tag of EXIF data or of a TIFF file.
pub struct Tag {
    pub tag: u16,
    pub kind: u16,
    pub values: Vec<u64>,
}

pub const SHORT: u16 = 3;
pub const LONG: u16 = 4;

pub fn tag(tag: u16, kind: u16, values: impl Into<Vec<u64>>) -> Tag {
    Tag { tag, kind, values: values.into() }
}

fn size(kind: u16) -> usize {
    match kind {
        1 | 6 | 7 => 1,
        3 | 8 => 2,
        16 => 8,
        _ => 4,
    }
}

/// A TIFF in one byte order, TIFF or BigTIFF.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    pub little_endian: bool,
    pub big: bool,
}

pub const FORMS: [Form; 4] = [
    Form { little_endian: true, big: false },
    Form { little_endian: false, big: false },
    Form { little_endian: true, big: true },
    Form { little_endian: false, big: true },
];

/// One directory: its tags, its pixels, to which `STRIP_OFFSETS` will point, and the directories below it.
#[derive(Default)]
pub struct Page {
    pub tags: Vec<Tag>,
    pub data: Vec<u8>,
    pub below: Vec<Page>,
}

impl Form {
    pub fn number(self, value: u64, bytes: usize) -> Vec<u8> {
        let mut digits = value.to_le_bytes()[..bytes].to_vec();
        if !self.little_endian {
            digits.reverse();
        }
        digits
    }

    fn word(self) -> usize {
        if self.big { 8 } else { 4 }
    }

    pub fn file(self, pages: Vec<Page>) -> Vec<u8> {
        let mut out = if self.little_endian { b"II".to_vec() } else { b"MM".to_vec() };
        out.extend(self.number(if self.big { 43 } else { 42 }, 2));
        if self.big {
            out.extend(self.number(8, 2));
            out.extend(self.number(0, 2));
        }
        let mut link = out.len();
        out.extend(vec![0; self.word()]);
        for page in pages {
            let (at, next) = self.write(&mut out, page);
            self.set(&mut out, link, at);
            link = next;
        }
        out
    }

    fn set(self, out: &mut [u8], at: usize, value: usize) {
        out[at..at + self.word()].copy_from_slice(&self.number(value as u64, self.word()));
    }

    /// Writes a directory; returns its offset, and the offset of its link to the next one.
    fn write(self, out: &mut Vec<u8>, page: Page) -> (usize, usize) {
        let mut tags = page.tags;
        if !page.data.is_empty() {
            tags.push(tag(273, LONG, [out.len() as u64]));
            tags.push(tag(279, LONG, [page.data.len() as u64]));
            out.extend(page.data);
        }
        let below: Vec<u64> = page.below.into_iter().map(|page| self.write(out, page).0 as u64).collect();
        if !below.is_empty() {
            tags.push(tag(330, LONG, below));
        }
        tags.sort_by_key(|tag| tag.tag);
        let mut entries = Vec::new();
        for tag in &tags {
            let values: Vec<u8> = tag.values.iter().flat_map(|&value| self.number(value, size(tag.kind))).collect();
            entries.extend(self.number(tag.tag.into(), 2));
            entries.extend(self.number(tag.kind.into(), 2));
            entries.extend(self.number(tag.values.len() as u64, self.word()));
            if values.len() <= self.word() {
                entries.extend(&values);
                entries.extend(vec![0; self.word() - values.len()]);
            } else {
                entries.extend(self.number(out.len() as u64, self.word()));
                out.extend(values);
            }
        }
        let at = out.len();
        out.extend(self.number(tags.len() as u64, if self.big { 8 } else { 2 }));
        out.extend(entries);
        let link = out.len();
        out.extend(vec![0; self.word()]);
        (at, link)
    }
}

/// A page with the tags for these pixels; `data` is written as one strip.
pub fn page(width: u32, height: u32, bits: &[u64], photometric: u64, data: Vec<u8>) -> Page {
    let tags = vec![
        tag(256, LONG, [width.into()]),
        tag(257, LONG, [height.into()]),
        tag(258, SHORT, bits),
        tag(262, SHORT, [photometric]),
        tag(277, SHORT, [bits.len() as u64]),
        tag(278, LONG, [height.into()]),
    ];
    Page { tags, data, below: Vec::new() }
}

/// EXIF data with an orientation.
pub fn exif(form: Form, kind: u16, values: &[u64]) -> Vec<u8> {
    form.file(vec![Page { tags: vec![tag(0x0112, kind, values)], ..Page::default() }])
}

/// A JPEG with EXIF data after its first marker.
pub fn jpeg_with(exif: &[u8], jpeg: &[u8]) -> Vec<u8> {
    let length = (exif.len() + 8) as u16;
    [&jpeg[..2], &[0xff, 0xe1], &length.to_be_bytes(), b"Exif\0\0", exif, &jpeg[2..]].concat()
}

pub fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [kind, data].concat();
    [&(data.len() as u32).to_be_bytes()[..], &body, &crc32fast::hash(&body).to_be_bytes()].concat()
}

/// A PNG with an added chunk before or after its pixels.
pub fn png_with(kind: &[u8; 4], data: &[u8], png: &[u8], behind: bool) -> Vec<u8> {
    let at = if behind { png.len() - 12 } else { 33 };
    [&png[..at], &chunk(kind, data), &png[at..]].concat()
}

/// A WebP in the extended form with EXIF data, made from one in the simple form.
pub fn webp_with(exif: &[u8], simple: &[u8], (width, height): (u32, u32)) -> Vec<u8> {
    let side = |side: u32| (side - 1).to_le_bytes()[..3].to_vec();
    let mut body = b"WEBPVP8X\x0a\0\0\0\x08\0\0\0".to_vec();
    body.extend([side(width), side(height)].concat());
    body.extend(&simple[12..]);
    body.extend(b"EXIF");
    body.extend((exif.len() as u32).to_le_bytes());
    body.extend(exif);
    body.extend(vec![0; exif.len() % 2]);
    [b"RIFF", &(body.len() as u32).to_le_bytes()[..], &body].concat()
}

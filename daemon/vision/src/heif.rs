//! HEIC and AVIF by libheif, where it is installed: phones and many cameras write nothing else.
//!
//! The library is opened when the first such image is decoded. While it is not installed, each further image tries
//! again, so that installing it needs no restart. The library rotates and mirrors the image as the file says; EXIF is
//! ignored.

pub mod boxes;

use crate::error::{DecodeError, Limit, MAX_ALLOCATION_BYTES, MAX_PIXELS, MAX_SIDE_PX};
use crate::format::Format;
use crate::size::Head;
use image::RgbImage;
use libloading::Library;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

const LIBRARY: &str = "libheif.so.1";

// Constants of libheif's interface (heif.h).
const HEVC: c_uint = 1;
const AV1: c_uint = 4;
const COLOURSPACE_RGB: c_uint = 1;
const CHROMA_INTERLEAVED_RGB: c_uint = 10;
const CHANNEL_INTERLEAVED: c_uint = 10;
const DECODER_PLUGIN_ERROR: c_uint = 7;
const UNSUPPORTED_FILETYPE: c_uint = 3;
const UNSUPPORTED_FEATURE: c_uint = 4;
const MEMORY_ALLOCATION_ERROR: c_uint = 6;
const SECURITY_LIMIT_EXCEEDED: c_uint = 1000;
const END_OF_DATA: c_uint = 100;

/// `struct heif_error`, returned by value.
#[repr(C)]
#[derive(Clone, Copy)]
struct Status {
    code: c_uint,
    subcode: c_uint,
    _message: *const c_char,
}

/// The start of `struct heif_decoding_options`. The library allocates it, and new versions add fields only at its end.
#[repr(C)]
struct Options {
    version: u8,
    ignore_transformations: u8,
    _on_start: *const c_void,
    _on_progress: *const c_void,
    _on_end: *const c_void,
    _user_data: *mut c_void,
    /// Since version 2.
    convert_hdr_to_8bit: u8,
    /// Since version 3.
    strict_decoding: u8,
}

/// The start of `struct heif_security_limits` (libheif 1.19).
#[repr(C)]
struct Limits {
    _version: u8,
    max_image_size_pixels: u64,
    _max_number_of_tiles: u64,
    _max_bayer_pattern_pixels: u32,
    _max_items: u32,
    _max_color_profile_size: u32,
    max_memory_block_size: u64,
}

type Object = *mut c_void;

/// The functions that are called. Those that libheif 1.4 lacks are optional.
struct Heif {
    context_alloc: unsafe extern "C" fn() -> Object,
    context_free: unsafe extern "C" fn(Object),
    set_size_limit: unsafe extern "C" fn(Object, c_int),
    read_from_memory: unsafe extern "C" fn(Object, *const u8, usize, *const c_void) -> Status,
    primary_handle: unsafe extern "C" fn(Object, *mut Object) -> Status,
    handle_release: unsafe extern "C" fn(Object),
    handle_width: unsafe extern "C" fn(Object) -> c_int,
    handle_height: unsafe extern "C" fn(Object) -> c_int,
    have_decoder: unsafe extern "C" fn(c_uint) -> c_int,
    options_alloc: unsafe extern "C" fn() -> *mut Options,
    options_free: unsafe extern "C" fn(*mut Options),
    decode: unsafe extern "C" fn(Object, *mut Object, c_uint, c_uint, *const Options) -> Status,
    image_release: unsafe extern "C" fn(Object),
    image_width: unsafe extern "C" fn(Object, c_uint) -> c_int,
    image_height: unsafe extern "C" fn(Object, c_uint) -> c_int,
    plane: unsafe extern "C" fn(Object, c_uint, *mut c_int) -> *const u8,
    set_threads: Option<unsafe extern "C" fn(Object, c_int)>,
    security_limits: Option<unsafe extern "C" fn(Object) -> *mut Limits>,
    /// Keeps the library loaded, and so its functions.
    _library: Library,
}

/// Whether libheif is installed. Without it, HEIC and AVIF cannot be decoded.
pub fn has_libheif() -> bool {
    Heif::get().is_some()
}

impl Heif {
    /// The library, or None while it is not installed.
    fn get() -> Option<&'static Self> {
        static OPENED: OnceLock<Heif> = OnceLock::new();
        if OPENED.get().is_none() {
            // Two threads may open it at the same time: the system counts references, and one of the two is dropped.
            let _ = OPENED.set(Self::open().ok()?);
        }
        OPENED.get()
    }

    fn open() -> Result<Self, libloading::Error> {
        // SAFETY: libheif's initialisers have no requirements, and each name has the type that heif.h gives it.
        unsafe {
            let library = Library::new(LIBRARY)?;
            // Since 1.13; loads the plugins.
            if let Ok(init) = library.get::<unsafe extern "C" fn(*const c_void) -> Status>(b"heif_init\0") {
                init(null());
            }
            Ok(Self {
                context_alloc: *library.get(b"heif_context_alloc\0")?,
                context_free: *library.get(b"heif_context_free\0")?,
                set_size_limit: *library.get(b"heif_context_set_maximum_image_size_limit\0")?,
                read_from_memory: *library.get(b"heif_context_read_from_memory_without_copy\0")?,
                primary_handle: *library.get(b"heif_context_get_primary_image_handle\0")?,
                handle_release: *library.get(b"heif_image_handle_release\0")?,
                handle_width: *library.get(b"heif_image_handle_get_width\0")?,
                handle_height: *library.get(b"heif_image_handle_get_height\0")?,
                have_decoder: *library.get(b"heif_have_decoder_for_format\0")?,
                options_alloc: *library.get(b"heif_decoding_options_alloc\0")?,
                options_free: *library.get(b"heif_decoding_options_free\0")?,
                decode: *library.get(b"heif_decode_image\0")?,
                image_release: *library.get(b"heif_image_release\0")?,
                image_width: *library.get(b"heif_image_get_width\0")?,
                image_height: *library.get(b"heif_image_get_height\0")?,
                plane: *library.get(b"heif_image_get_plane_readonly\0")?,
                set_threads: library.get(b"heif_context_set_max_decoding_threads\0").ok().map(|name| *name),
                security_limits: library.get(b"heif_context_get_security_limits\0").ok().map(|name| *name),
                _library: library,
            })
        }
    }
}

/// The pixels of a HEIC or AVIF file's main image, turned upright, without alpha.
///
/// # Errors
/// [`DecodeError`] where the file is cut off or damaged, or where its decoder is not installed.
pub fn pixels(bytes: &[u8], format: Format, head: &Head) -> Result<RgbImage, DecodeError> {
    let codec = if format == Format::Avif { AV1 } else { HEVC };
    let Some(heif) = Heif::get() else { return Err(not_installed(format)) };
    // SAFETY: the function takes a number and returns one.
    if unsafe { (heif.have_decoder)(codec) } == 0 {
        return Err(not_installed(format));
    }
    let context = Context::read(heif, bytes).map_err(|status| refusal(status, head))?;
    context.decode(head)
}

fn not_installed(format: Format) -> DecodeError {
    let (what, advice) = match format {
        Format::Avif => (
            "AVIF, which needs the library libheif with a decoder of AV1",
            "install the Debian packages libheif1 and libheif-plugin-dav1d (in Debian 12 libheif1 alone), or export it as JPEG or PNG",
        ),
        _ => (
            "HEIC, which needs the library libheif with a decoder of HEVC",
            "install the Debian packages libheif1 and libheif-plugin-libde265 (in Debian 12 libheif1 alone), or export it as JPEG or PNG",
        ),
    };
    DecodeError::Unsupported { what: what.into(), advice }
}

fn refusal(status: Status, head: &Head) -> DecodeError {
    let name = head.format;
    match (status.code, status.subcode) {
        (_, END_OF_DATA) => DecodeError::Truncated { format: name },
        (MEMORY_ALLOCATION_ERROR, _) | (_, SECURITY_LIMIT_EXCEEDED) => head.too_large(Limit::Memory),
        (UNSUPPORTED_FILETYPE | UNSUPPORTED_FEATURE, _) => DecodeError::unsupported(format!("a rare kind of {name}")),
        (DECODER_PLUGIN_ERROR, _) => DecodeError::Damaged { format: name, what: "its pixels cannot be decoded" },
        _ => DecodeError::Damaged { format: name, what: "its data are wrong" },
    }
}

/// A parsed file, and its main image.
struct Context<'a> {
    heif: &'static Heif,
    context: Object,
    handle: Object,
    /// The library reads the bytes without copying them.
    _bytes: std::marker::PhantomData<&'a [u8]>,
}

impl<'a> Context<'a> {
    fn read(heif: &'static Heif, bytes: &'a [u8]) -> Result<Self, Status> {
        // SAFETY: the context is new; the bytes outlive it, as `_bytes` says.
        unsafe {
            let context = (heif.context_alloc)();
            let mut read = Self { heif, context, handle: null_mut(), _bytes: std::marker::PhantomData };
            (heif.set_size_limit)(context, MAX_SIDE_PX as c_int);
            if let Some(limits) = heif.security_limits.and_then(|limits| limits(context).as_mut()) {
                limits.max_image_size_pixels = MAX_PIXELS;
                limits.max_memory_block_size = MAX_ALLOCATION_BYTES;
            }
            // No threads in the library, because coft already decodes several images at the same time.
            if let Some(set_threads) = heif.set_threads {
                set_threads(context, 0);
            }
            done((heif.read_from_memory)(context, bytes.as_ptr(), bytes.len(), null()))?;
            done((heif.primary_handle)(context, &mut read.handle))?;
            Ok(read)
        }
    }

    fn decode(&self, head: &Head) -> Result<RgbImage, DecodeError> {
        let heif = self.heif;
        let damaged = DecodeError::Damaged { format: head.format, what: "its pixels cannot be decoded" };
        // SAFETY: handle and options belong to the library; the plane is read while its image exists.
        unsafe {
            let (width, height) = ((heif.handle_width)(self.handle), (heif.handle_height)(self.handle));
            let (width, height) = (u32::try_from(width).unwrap_or(0), u32::try_from(height).unwrap_or(0));
            // The library found a larger size than `boxes`, for which the promised memory is too small.
            if u64::from(width) * u64::from(height) > u64::from(head.width) * u64::from(head.height) {
                return Err(DecodeError::Damaged { format: head.format, what: "its header contradicts itself" });
            }
            let options = (heif.options_alloc)();
            if let Some(options) = options.as_mut() {
                options.ignore_transformations = 0;
                if options.version >= 2 {
                    options.convert_hdr_to_8bit = 1;
                }
                // Without this, the library makes up pixels that it cannot decode.
                if options.version >= 3 {
                    options.strict_decoding = 1;
                }
            }
            let mut image = null_mut();
            let status = (heif.decode)(self.handle, &mut image, COLOURSPACE_RGB, CHROMA_INTERLEAVED_RGB, options);
            (heif.options_free)(options);
            done(status).map_err(|status| refusal(status, head))?;
            let image = Image { heif, image };
            image.rgb().ok_or(damaged)
        }
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        // SAFETY: both belong to the library, and nothing uses them afterwards.
        unsafe {
            if !self.handle.is_null() {
                (self.heif.handle_release)(self.handle);
            }
            (self.heif.context_free)(self.context);
        }
    }
}

struct Image {
    heif: &'static Heif,
    image: Object,
}

impl Image {
    fn rgb(&self) -> Option<RgbImage> {
        let heif = self.heif;
        // SAFETY: the image belongs to the library; the plane holds `height` rows, `stride` bytes apart, of 3 bytes for
        // each pixel.
        unsafe {
            let width = u32::try_from((heif.image_width)(self.image, CHANNEL_INTERLEAVED)).ok()?;
            let height = u32::try_from((heif.image_height)(self.image, CHANNEL_INTERLEAVED)).ok()?;
            let mut stride = 0;
            let plane = (heif.plane)(self.image, CHANNEL_INTERLEAVED, &mut stride);
            let (row, stride) = (3 * width as usize, usize::try_from(stride).ok()?);
            if plane.is_null() || row == 0 || height == 0 || stride < row {
                return None;
            }
            let mut out = RgbImage::new(width, height);
            for (y, to) in out.as_mut().chunks_exact_mut(row).enumerate() {
                to.copy_from_slice(std::slice::from_raw_parts(plane.add(y * stride), row));
            }
            Some(out)
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: the image belongs to the library, and nothing uses it afterwards.
        unsafe { (self.heif.image_release)(self.image) }
    }
}

fn done(status: Status) -> Result<(), Status> {
    if status.code == 0 { Ok(()) } else { Err(status) }
}

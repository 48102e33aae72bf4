/* Decodes JPEG by libjpeg-turbo's own interface, which reports more than TurboJPEG's: the number of every warning, not
 * only the text of the first one, and whether the decoder asked for bytes that the file does not have. */

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

/* Returned to Rust (jpeg.rs has the same list). */
enum outcome { WHOLE = 0, ENDS_EARLY, ROWS_MISSING, DAMAGED, UNSUPPORTED, TOO_MANY_SCANS, TOO_MUCH_MEMORY };

struct decoder {
  struct jpeg_decompress_struct info;
  struct jpeg_error_mgr errors;
  struct jpeg_source_mgr source;
  struct jpeg_progress_mgr progress;
  int max_scans;
  /* The decoder asked for more bytes than the file has. */
  int ended;
  enum outcome outcome;
  jmp_buf escape;
};

static void leave(struct decoder *decoder, enum outcome outcome) {
  decoder->outcome = outcome;
  longjmp(decoder->escape, 1);
}

/* The decoder cannot go on. */
static void on_error(j_common_ptr info) {
  struct decoder *decoder = info->client_data;
  switch (info->err->msg_code) {
  case JERR_NO_BACKING_STORE:
  case JERR_OUT_OF_MEMORY:
    leave(decoder, TOO_MUCH_MEMORY);
    break;
  case JERR_ARITH_NOTIMPL:
  case JERR_BAD_PRECISION:
  case JERR_CCIR601_NOTIMPL:
  case JERR_COMPONENT_COUNT:
  case JERR_CONVERSION_NOTIMPL:
  case JERR_EMPTY_IMAGE:
  case JERR_FRACT_SAMPLE_NOTIMPL:
  case JERR_NOT_COMPILED:
  case JERR_NOTIMPL:
  case JERR_SOF_UNSUPPORTED:
    leave(decoder, UNSUPPORTED);
    break;
  default:
    leave(decoder, decoder->ended ? ENDS_EARLY : DAMAGED);
  }
}

/* A warning: the decoder continues with invented pixels, or ignores an irregularity that changes no pixel. */
static void on_message(j_common_ptr info, int level) {
  struct decoder *decoder = info->client_data;
  if (level >= 0)
    return;
  switch (info->err->msg_code) {
  case JWRN_ADOBE_XFORM:
  case JWRN_BOGUS_ICC:
  case JWRN_EXTRANEOUS_DATA:
  case JWRN_JFIF_MAJOR:
  case JWRN_JPEG_EOF:
  case JWRN_NOT_SEQUENTIAL:
  case JWRN_TOO_MUCH_DATA:
    return;
  /* The entropy decoder needed bits after the last ones, or a part of the rows is not at its place. */
  case JWRN_HIT_MARKER:
  case JWRN_MUST_RESYNC:
    leave(decoder, decoder->ended ? ENDS_EARLY : ROWS_MISSING);
    break;
  default:
    leave(decoder, DAMAGED);
  }
}

static void no_output(j_common_ptr info) { (void)info; }

static void on_progress(j_common_ptr info) {
  struct decoder *decoder = info->client_data;
  if (info->is_decompressor && ((j_decompress_ptr)info)->input_scan_number > decoder->max_scans)
    leave(decoder, TOO_MANY_SCANS);
}

static void nothing(j_decompress_ptr info) { (void)info; }

/* All bytes are in the buffer from the start. If the decoder asks for more, it gets an end marker, each time anew. */
static boolean no_more(j_decompress_ptr info) {
  static const JOCTET end[2] = {0xff, JPEG_EOI};
  struct decoder *decoder = info->client_data;
  decoder->ended = 1;
  info->src->next_input_byte = end;
  info->src->bytes_in_buffer = sizeof end;
  return TRUE;
}

static void skip(j_decompress_ptr info, long count) {
  struct jpeg_source_mgr *source = info->src;
  if (count <= 0)
    return;
  if ((size_t)count > source->bytes_in_buffer) {
    no_more(info);
    return;
  }
  source->next_input_byte += count;
  source->bytes_in_buffer -= (size_t)count;
}

/* Light that paper reflects under an ink and black, 0 to 255. JPEG files with four inks have inverted values, as
 * Adobe's programs write them: 255 is bare paper. Rounded as in Pillow. */
static uint8_t through_black(uint8_t paper, uint8_t black) {
  unsigned taken = (255u - paper) * black + 128u;
  return (uint8_t)(black - ((taken + (taken >> 8)) >> 8));
}

static void mix(const uint8_t *inks, uint8_t *rgb, uint32_t width) {
  for (uint32_t x = 0; x < width; x++, inks += 4, rgb += 3)
    for (int channel = 0; channel < 3; channel++)
      rgb[channel] = through_black(inks[channel], inks[3]);
}

/* Whether the data of a progressive image contain every bit of every coefficient. */
static int is_complete(const struct jpeg_decompress_struct *info) {
  if (!info->progressive_mode || info->coef_bits == NULL)
    return 1;
  for (int component = 0; component < info->num_components; component++)
    for (int k = 0; k < DCTSIZE2; k++)
      if (info->coef_bits[component][k] != 0)
        return 0;
  return 1;
}

struct request {
  const uint8_t *bytes;
  size_t length;
  uint8_t *rgb;
  uint32_t width, height;
  int colour;
  long max_memory;
};

/* All code that may exit by longjmp; the caller owns all data that are needed afterwards. */
static void run(struct decoder *decoder, const struct request *request) {
  struct jpeg_decompress_struct *info = &decoder->info;
  JSAMPARRAY inks = NULL;
  if (setjmp(decoder->escape))
    return;
  jpeg_create_decompress(info);
  info->client_data = decoder;
  info->mem->max_memory_to_use = request->max_memory;
  decoder->source.next_input_byte = request->bytes;
  decoder->source.bytes_in_buffer = request->length;
  decoder->source.init_source = nothing;
  decoder->source.fill_input_buffer = no_more;
  decoder->source.skip_input_data = skip;
  decoder->source.resync_to_restart = jpeg_resync_to_restart;
  decoder->source.term_source = nothing;
  info->src = &decoder->source;
  decoder->progress.progress_monitor = on_progress;
  info->progress = &decoder->progress;
  jpeg_read_header(info, TRUE);
  if (info->image_width != request->width || info->image_height != request->height)
    leave(decoder, DAMAGED);
  if (request->colour && info->num_components == 3)
    info->jpeg_color_space = request->colour == 1 ? JCS_RGB : JCS_YCbCr;
  info->out_color_space = info->num_components == 4 ? JCS_CMYK : JCS_RGB;
  jpeg_start_decompress(info);
  if (decoder->ended && !is_complete(info))
    leave(decoder, ENDS_EARLY);
  if (info->num_components == 4)
    inks = info->mem->alloc_sarray((j_common_ptr)info, JPOOL_IMAGE, 4 * request->width, 1);
  while (info->output_scanline < info->output_height) {
    JSAMPROW row = request->rgb + (size_t)3 * request->width * info->output_scanline;
    jpeg_read_scanlines(info, inks ? inks : &row, 1);
    if (inks)
      mix(inks[0], row, request->width);
  }
  /* Data after the last row do not matter and are not read. */
}

/* Decodes to RGB: 3 * width * height bytes at `rgb`. `colour`: 0 as stated in the file, 1 RGB, 2 YCbCr. */
int coft_jpeg_decode(const uint8_t *bytes, size_t length, uint8_t *rgb, uint32_t width, uint32_t height, int colour,
                     int max_scans, long max_memory) {
  const struct request request = {bytes, length, rgb, width, height, colour, max_memory};
  struct decoder decoder;
  struct jpeg_decompress_struct *info = &decoder.info;
  memset(&decoder, 0, sizeof decoder);
  decoder.max_scans = max_scans;
  info->err = jpeg_std_error(&decoder.errors);
  decoder.errors.error_exit = on_error;
  decoder.errors.emit_message = on_message;
  decoder.errors.output_message = no_output;
  info->client_data = &decoder;
  run(&decoder, &request);
  jpeg_destroy_decompress(info);
  return decoder.outcome;
}

/*
 * The yardstick for the TypeScript model: the same nested translation in tight C, over the same memory image.
 *
 * AMD 48882 rev 3.10: device table entry, GCR3 table, guest table and host table, with every check that the model makes
 * on a request with a PASID, and an IOTLB of the same shape. What makes it tight: 64-bit words, and one flat buffer for
 * all tables, so that a physical address is an index after one bounds check. It traces nothing, cannot be forked and
 * has no fingerprint.
 *
 * `walk IMAGE` loads an image, which image.mjs lays out, and takes commands, a line each, until the input ends:
 *   cold MS    requests that miss the IOTLB: look-up, walk, fill; one invalidation of the domain for each pass
 *   fresh MS   the device table entry and the walk, without the caches
 *   hit MS     requests that the IOTLB answers
 *   loads FILE takes the offsets, in bytes from the window's base, of the loads of one pass
 *   chase MS   those loads alone, each waiting for the one before
 * The answer to all but `loads` is a line: nanoseconds per request, checksum of the addresses. Every translation is
 * checked in the loop: exit code 1 at the first wrong one.
 */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef uint64_t u64;
typedef uint32_t u32;

enum fault { NO_FAULT, NOT_PRESENT, RESERVED_BIT, BAD_ENCODING, DENIED, UNREADABLE, ILLEGAL_ENTRY, NOT_MEASURED };
enum origin { FROM_NOWHERE, FROM_WALK, FROM_IOTLB };

/* Rights lie where host entries and the device table entry keep IR and IW; the guest's own come below. */
#define MAY_READ (1ull << 61)
#define MAY_WRITE (1ull << 62)
#define MAY_EXECUTE (1ull << 60)
#define USER_MAY (1ull << 59)
#define DIRTY_KEPT (1ull << 58)
#define ALL_RIGHTS (MAY_READ | MAY_WRITE | MAY_EXECUTE | USER_MAY)

#define FRAME 0x000ffffffffff000ull
#define ACCESSED 0x20ull
#define DIRTY 0x40ull
#define NO_EXECUTE (1ull << 63)

/* Flags of a request. */
#define WRITE 1u
#define EXECUTE 2u
#define SUPERVISOR 4u
#define FRESH 8u

static void *room(size_t count, size_t bytes) {
  void *got = calloc(count == 0 ? 1 : count, bytes);
  if (got == NULL) {
    fprintf(stderr, "walk: no memory for %zu times %zu bytes\n", count, bytes);
    exit(1);
  }
  return got;
}

static inline u64 below(unsigned bit) { return bit >= 64 ? ~0ull : (1ull << bit) - 1; }

/* ---- Memory: one window of physical addresses; the bias turns an address in it into a pointer ---- */

static u64 *window, window_base, window_bytes, window_bias;

static inline u64 *word_at(u64 spa) {
  return spa - window_base < window_bytes ? (u64 *)(uintptr_t)(spa + window_bias) : NULL;
}

/* ---- The machine, as the image describes it ---- */

static struct {
  u64 device_table, device_count, control;
  u64 host_levels, guest_levels, gcr3_levels;
  u64 checks_no_execute, checks_user;
  u64 exclusion_base, hole_is_memory;
} chip;

#define GUEST_DIRTY_OFF (1ull << 48)
#define GUEST_ACCESSED_OFF (1ull << 54)
#define GCR3_TRP_MODE (1ull << 58)

/* ---- Host walk ---- */

#define DIRECTORY_RESERVED 0x1ff0000000000000ull
#define LEAF_RESERVED 0x07f0000000000000ull

static struct {
  u64 root, granted, marking;
  unsigned mode;
  /* The answer. */
  u64 spa, rights;
  unsigned size;
  bool is_dirty;
  u64 reads;
  u64 *trail[6];
  unsigned trail_length;
} host;

static void host_mark(bool for_write) {
  for (unsigned i = 0; i < host.trail_length; i++) {
    bool is_leaf = i + 1 == host.trail_length;
    *host.trail[i] |= is_leaf && for_write ? host.marking : host.marking & ACCESSED;
  }
}

static enum fault host_leaf(unsigned level, u64 entry, u64 address, u64 rights, u64 needed) {
  unsigned shift = 3 + 9 * level, size = shift;
  if ((entry >> 9 & 7) == 0) {
    if (level == 6) return BAD_ENCODING;
  } else {
    u64 zeros = ~entry & FRAME;
    size = zeros == 0 ? 53 : (unsigned)__builtin_ctzll(zeros) + 1;
    if (size <= shift || size >= shift + 9 || (size > 51 && level == 5)) return BAD_ENCODING;
  }
  host.spa = (entry & FRAME & ~below(size)) | (address & below(size));
  host.size = size;
  host.rights = rights;
  host.is_dirty = (entry & DIRTY) != 0 || (needed & MAY_WRITE) != 0;
  if (host.marking != 0) host_mark((needed & MAY_WRITE) != 0);
  return NO_FAULT;
}

static inline enum fault host_steps(u64 address, u64 needed, u64 *reads) {
  unsigned level = host.mode, shift = 3 + 9 * level;
  if (level < 6 && address >> (shift + 9) != 0) return NOT_PRESENT;
  u64 table = host.root, rights = host.granted;
  const u64 marking = host.marking;
  host.trail_length = 0;
  for (;;) {
    u64 at = table + (address >> shift << 3 & 0xff8);
    u64 *word = word_at(at);
    ++*reads;
    if (word == NULL) {
      host.spa = at;
      return UNREADABLE;
    }
    if (marking != 0) host.trail[host.trail_length++] = word;
    u64 entry = *word;
    unsigned next = entry >> 9 & 7;
    table = entry & FRAME;
    /* The usual entry first. Its level is known before it is read, so that the next address waits for nothing else. */
    if (next == level - 1 && next != 0 && (entry & (DIRECTORY_RESERVED | 1)) == 1) {
      rights &= entry;
      if ((rights & needed) != needed) return DENIED;
      level--;
      shift -= 9;
      continue;
    }
    bool is_leaf = next == 0 || next == 7;
    if ((entry & 1) == 0) return NOT_PRESENT;
    if ((entry & (is_leaf ? LEAF_RESERVED : DIRECTORY_RESERVED)) != 0) return RESERVED_BIT;
    rights &= entry;
    if ((rights & needed) != needed) return DENIED;
    if (is_leaf) return host_leaf(level, entry, address, rights, needed);
    if (next >= level) return next > chip.host_levels ? RESERVED_BIT : BAD_ENCODING;
    if ((address & below(shift) & ~below(12 + 9 * next)) != 0) return BAD_ENCODING;
    level = next;
    shift = 3 + 9 * level;
  }
}

static enum fault host_walk(u64 address, u64 needed) {
  u64 reads = 0;
  enum fault fault = host_steps(address, needed, &reads);
  host.reads += reads;
  return fault;
}

/* ---- Guest walk ---- */

static struct {
  u64 gcr3, granted;
  unsigned gcr3_levels, levels;
  bool gcr3_nested, sets_accessed, sets_dirty, stores;
  /* The answer. */
  u64 spa, gpa, rights;
  unsigned size;
  bool is_dirty;
  u64 reads;
  u64 *word, entry;
} guest;

static inline enum fault guest_read(bool is_nested, u64 gpa) {
  u64 at = gpa;
  if (is_nested) {
    enum fault fault = host_walk(gpa, MAY_READ);
    at = host.spa;
    if (fault != NO_FAULT) return fault;
  }
  guest.reads++;
  guest.word = word_at(at);
  if (guest.word == NULL) return UNREADABLE;
  guest.entry = *guest.word;
  return NO_FAULT;
}

static inline enum fault guest_mark(bool as_written) {
  u64 bits = (guest.sets_accessed ? ACCESSED : 0) | (as_written && guest.sets_dirty ? DIRTY : 0);
  if ((guest.entry & bits) == bits) return NO_FAULT;
  if (host.mode != 0) {
    if ((host.rights & MAY_WRITE) == 0) return DENIED;
    host_mark(true);
  }
  if (guest.stores) *guest.word |= bits;
  return NO_FAULT;
}

static enum fault guest_finish(unsigned size, u64 address, u64 rights, u64 needed) {
  u64 gpa = (guest.entry & FRAME & ~below(size)) | (address & below(size));
  guest.gpa = gpa;
  guest.is_dirty = (guest.entry & DIRTY) != 0 || (needed & MAY_WRITE) != 0;
  guest.spa = gpa;
  guest.size = size;
  guest.rights = rights;
  if (host.mode == 0) return NO_FAULT;
  enum fault fault = host_walk(gpa, needed & (MAY_READ | MAY_WRITE));
  guest.spa = host.spa;
  if (fault != NO_FAULT) return fault;
  guest.size = host.size < size ? host.size : size;
  guest.rights = rights & (host.rights | ~(MAY_READ | MAY_WRITE));
  return NO_FAULT;
}

static bool has_reserved_bits(unsigned level, bool is_leaf, u64 entry) {
  if (!chip.checks_no_execute && (entry & NO_EXECUTE) != 0) return true;
  if (level == 1 || !is_leaf) return false;
  return (entry & (level == 2 ? 0x001fe000u : level == 3 ? 0x3fffe000u : ~0u)) != 0;
}

static enum fault guest_walk(u32 pasid, u64 address, u64 needed) {
  if (pasid >> (9 * guest.gcr3_levels) != 0) return NOT_PRESENT;
  unsigned width = 12 + 9 * guest.levels;
  int64_t top = (int64_t)address >> (width - 1);
  if (pasid == 0 ? address >> width != 0 : top != 0 && top != -1) return NOT_PRESENT;
  u64 gpa = guest.gcr3;
  for (int level = (int)guest.gcr3_levels - 1; level >= 0; level--) {
    enum fault fault = guest_read(guest.gcr3_nested && host.mode != 0, gpa | (pasid >> (9 * level) & 511) << 3);
    if (fault != NO_FAULT) return fault;
    if ((guest.entry & 1) == 0) return NOT_PRESENT;
    if ((guest.entry & 0xfff0000000000ffeull) != 0) return RESERVED_BIT;
    gpa = guest.entry & FRAME;
  }
  u64 rights = guest.granted | MAY_EXECUTE | USER_MAY;
  for (unsigned level = guest.levels;; level--) {
    enum fault fault = guest_read(host.mode != 0, gpa | (address >> (3 + 9 * level) & 511) << 3);
    if (fault != NO_FAULT) return fault;
    u64 entry = guest.entry;
    if ((entry & 1) == 0) return NOT_PRESENT;
    bool is_leaf = level == 1 || (entry & 0x80) != 0;
    if (has_reserved_bits(level, is_leaf, entry)) return RESERVED_BIT;
    if ((entry & 2) == 0) rights &= ~MAY_WRITE;
    if (chip.checks_user && (entry & 4) == 0) rights &= ~USER_MAY;
    if (chip.checks_no_execute && (entry & NO_EXECUTE) != 0) rights &= ~MAY_EXECUTE;
    if ((rights & needed) != needed) return DENIED;
    fault = guest_mark(is_leaf && (needed & MAY_WRITE) != 0);
    if (fault != NO_FAULT) return fault;
    if (is_leaf) return guest_finish(3 + 9 * level, address, rights, needed);
    gpa = entry & FRAME;
  }
}

/* ---- IOTLB: open addressing over (domain, PASID, page, size); wide invalidations by stamps ---- */

struct cached {
  u64 page; /* Page number; PASID bits 11:0 above. */
  u32 rest; /* DomainID; PASID bits 19:12 from bit 16; PASID valid 24; size from 25; live 31. */
  u32 stamp;
  u64 frame;
  u32 rights; /* High half of the rights' word. */
  u32 filler;
};

static struct cached *tlb;
static unsigned tlb_log2;
static u32 tlb_used, tlb_stamp = 1;
static u64 tlb_sizes;
static u32 flushed[0x10000];

static inline struct cached *tlb_find(u64 page, u32 rest) {
  u32 h = (u32)page * 0x9e3779b1u ^ (u32)(page >> 32) * 0x85ebca6bu ^ rest * 0xc2b2ae35u;
  u32 mask = (1u << tlb_log2) - 1;
  for (u32 slot = (h ^ h >> 15) * 0x27d4eb2fu >> (32 - tlb_log2);; slot = (slot + 1) & mask) {
    struct cached *entry = tlb + slot;
    if ((entry->rest == rest && entry->page == page) || entry->rest == 0) return entry;
  }
}

static inline u64 tag_page(u64 address, u32 pasid, unsigned size) {
  return (address >> 12 & ~below(size - 12)) | (u64)pasid << 52;
}

static inline u32 tag_rest(u32 domain, u32 pasid, unsigned size) {
  return domain | pasid >> 12 << 16 | 1u << 24 | size << 25 | 1u << 31;
}

static inline struct cached *tlb_lookup(u32 domain, u32 pasid, u64 address) {
  for (u64 sizes = tlb_sizes; sizes != 0; sizes &= sizes - 1) {
    unsigned size = (unsigned)__builtin_ctzll(sizes);
    struct cached *entry = tlb_find(tag_page(address, pasid, size), tag_rest(domain, pasid, size));
    if (entry->rest != 0 && entry->stamp > flushed[domain]) return entry;
  }
  return NULL;
}

static void tlb_fill(u32 domain, u32 pasid, u64 address, unsigned size, u64 spa, u64 rights, u32 device) {
  u64 page = tag_page(address, pasid, size);
  u32 rest = tag_rest(domain, pasid, size);
  struct cached *entry = tlb_find(page, rest);
  if (entry->rest == 0 && tlb_used++ * 4ull >= 3ull << tlb_log2) {
    memset(tlb, 0, sizeof *tlb << tlb_log2);
    tlb_used = 1;
    entry = tlb_find(page, rest);
  }
  *entry = (struct cached){page, rest, tlb_stamp, spa & ~below(size), (u32)(rights >> 32), device};
  tlb_sizes |= 1ull << size;
}

static void tlb_invalidate_domain(u32 domain) { flushed[domain] = tlb_stamp++; }

/* ---- Device table ---- */

#define Q0_RESERVED (1ull << 63 | 3ull << 52 | 0x7c)
#define GUEST_VALID (1ull << 55)

struct device {
  u64 raw[4], gcr3;
  bool is_present;
  enum fault illegal, illegal_level;
};

static struct device *devices, scratch;

static bool device_read(struct device *device, u32 id) {
  const u64 *raw = id < chip.device_count ? word_at(chip.device_table + 32ull * id) : NULL;
  if (raw == NULL) return false;
  memcpy(device->raw, raw, sizeof device->raw);
  u64 q0 = raw[0], q1 = raw[1];
  device->is_present = true;
  device->illegal = device->illegal_level = NO_FAULT;
  device->gcr3 = (q0 >> 58 & 7) << 12 | (q1 >> 16 & 0xffff) << 15 | (q1 >> 43) << 31;
  if ((q0 & 1) == 0) return true;
  if ((q0 & Q0_RESERVED) != 0 || ((q0 & 2) != 0 && (q0 >> 7 & 3) == 2)) device->illegal = ILLEGAL_ENTRY;
  bool is_deep = (q0 >> 9 & 7) > chip.host_levels;
  bool is_guest_deep = (q0 >> 56 & 3) + 1 > chip.gcr3_levels || (raw[2] >> 54 & 3) + 4 > chip.guest_levels;
  if (is_deep || ((q0 & GUEST_VALID) != 0 && is_guest_deep)) device->illegal_level = ILLEGAL_ENTRY;
  return true;
}

/* ---- A request, from the device table entry to the answer ---- */

static struct {
  u64 spa, rights, reads;
  unsigned size;
  enum origin origin;
  /* The tag, and the device whose request filled the entry. */
  u32 domain, pasid, filler;
} answer;

static struct {
  u64 requests, hits, walks;
} counters;

static enum fault translate_walk(const struct device *device, u32 pasid, u64 address, u64 needed, u32 flags) {
  u64 q0 = device->raw[0];
  host.root = q0 & FRAME;
  host.mode = q0 >> 9 & 7;
  host.granted = guest.granted = q0 & (MAY_READ | MAY_WRITE);
  unsigned asked = (flags & FRESH) != 0 ? 0 : (unsigned)(q0 >> 7 & chip.control >> 46 & 3);
  host.marking = (asked & 1) == 0 ? 0 : asked == 3 ? ACCESSED | DIRTY : ACCESSED;
  guest.gcr3 = device->gcr3;
  guest.gcr3_levels = (q0 >> 56 & 3) + 1;
  guest.levels = (device->raw[2] >> 54 & 3) + 4;
  guest.gcr3_nested = (chip.control & GCR3_TRP_MODE) != 0;
  guest.sets_accessed = (chip.control & GUEST_ACCESSED_OFF) == 0;
  guest.sets_dirty = (chip.control & GUEST_DIRTY_OFF) == 0;
  guest.stores = (flags & FRESH) == 0;
  host.reads = guest.reads = 0;
  enum fault fault = guest_walk(pasid, address, needed);
  answer.spa = guest.spa;
  answer.size = guest.size;
  answer.rights = guest.rights & ALL_RIGHTS;
  answer.reads = host.reads + guest.reads;
  return fault;
}

/* Interrupts, and the HyperTransport hole below 2^40. */
static inline bool is_special(u64 address) {
  return address >> 20 == 0xfee || (address - 0xfd00000000 <= 0x2ffffffff && !chip.hole_is_memory);
}

static enum fault translate(u32 id, u32 pasid, u64 address, u32 flags) {
  counters.requests++;
  answer.origin = FROM_NOWHERE;
  answer.reads = 0;
  if ((chip.control & 1) == 0) return NOT_PRESENT;
  if (is_special(address)) return NOT_MEASURED;
  struct device *device = (flags & FRESH) != 0 ? &scratch : devices + (id & 0xffff);
  if (((flags & FRESH) != 0 || !device->is_present) && !device_read(device, id)) return UNREADABLE;
  u64 q0 = device->raw[0];
  if ((q0 & 1) == 0) return NOT_PRESENT;
  if (device->illegal != NO_FAULT) return device->illegal;
  if ((chip.exclusion_base & 1) != 0) return NOT_MEASURED;
  if ((q0 & 2) == 0) return NOT_PRESENT;
  u64 access = (flags & WRITE) != 0 ? MAY_WRITE : MAY_READ;
  if ((q0 & access) == 0) return DENIED;
  if (device->illegal_level != NO_FAULT) return device->illegal_level;
  if ((q0 & GUEST_VALID) == 0) return NOT_PRESENT;
  u64 needed = access | ((flags & EXECUTE) != 0 ? MAY_EXECUTE : 0) | ((flags & SUPERVISOR) != 0 ? 0 : USER_MAY);
  u32 domain = device->raw[1] & 0xffff;
  answer.domain = domain;
  answer.pasid = pasid;
  if ((flags & FRESH) == 0) {
    const struct cached *entry = tlb_lookup(domain, pasid, address);
    u64 cached_needed = needed | ((needed & MAY_WRITE) != 0 ? DIRTY_KEPT : 0);
    if (entry != NULL && ((u64)entry->rights << 32 & cached_needed) == cached_needed) {
      answer.size = entry->rest >> 25 & 63;
      answer.spa = entry->frame | (address & below(answer.size));
      answer.rights = (u64)entry->rights << 32 & ALL_RIGHTS;
      answer.origin = FROM_IOTLB;
      answer.filler = entry->filler;
      counters.hits++;
      return NO_FAULT;
    }
  }
  counters.walks++;
  answer.filler = id;
  enum fault fault = translate_walk(device, pasid, address, needed, flags);
  if (fault != NO_FAULT) return fault;
  answer.origin = FROM_WALK;
  if ((flags & FRESH) == 0) {
    bool host_kept = (host.marking & DIRTY) == 0 || host.mode == 0 || host.is_dirty;
    bool is_kept = host_kept && (!guest.sets_dirty || guest.is_dirty);
    u64 rights = answer.rights | (is_kept ? DIRTY_KEPT : 0);
    tlb_fill(domain, pasid, address, answer.size, answer.spa, rights, id);
  }
  return NO_FAULT;
}

/* ---- The benchmark ---- */

struct asked {
  u64 pasid, address, expected;
};

static struct asked *requests;
static u64 request_count, device_id, reads_per_walk;
static u64 *loads, load_count;

static u64 pass(enum origin origin, u64 reads, u32 flags) {
  u64 sum = 0;
  for (u64 i = 0; i < request_count; i++) {
    const struct asked *asked = requests + i;
    enum fault fault = translate((u32)device_id, (u32)asked->pasid, asked->address, flags);
    bool is_right = fault == NO_FAULT && answer.spa == asked->expected && answer.origin == origin;
    if (!is_right || answer.reads != reads) {
      fprintf(stderr, "walk: PASID %" PRIu64 ": fault %d, %" PRIx64 " instead of %" PRIx64 ", %" PRIu64 " reads\n",
              asked->pasid, (int)fault, answer.spa, asked->expected, answer.reads);
      exit(1);
    }
    sum += answer.spa;
  }
  return sum;
}

static u64 cold_pass(void) {
  tlb_invalidate_domain(devices[device_id].raw[1] & 0xffff);
  return pass(FROM_WALK, reads_per_walk, 0);
}
static u64 fresh_pass(void) { return pass(FROM_WALK, reads_per_walk, FRESH); }
static u64 hit_pass(void) { return pass(FROM_IOTLB, 0, 0); }

static u64 chase_pass(void) {
  static volatile u64 none;
  u64 zero = none, last = 0;
  for (u64 i = 0; i < load_count; i++) last = window[(loads[i] >> 3) + (last & zero)];
  return last & zero;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void run(u64 (*work)(void), double milliseconds) {
  double start = now(), end;
  u64 passes = 0, sum;
  do {
    sum = work();
    passes++;
    end = now();
  } while (end - start < milliseconds * 1e6);
  printf("%.3f %" PRIu64 "\n", (end - start) / (double)(passes * request_count), sum);
  fflush(stdout);
}

static u64 *read_file(const char *path, u64 *count) {
  FILE *file = fopen(path, "rb");
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
    perror(path);
    exit(1);
  }
  *count = (u64)ftell(file) / 8;
  rewind(file);
  u64 *words = room(*count, 8);
  if (fread(words, 8, *count, file) != *count) {
    perror(path);
    exit(1);
  }
  fclose(file);
  return words;
}

/* A header of 16 words, the requests, then pairs of an address and the 64-bit word that lies there. */
static void load_image(const char *path) {
  u64 count, *image = read_file(path, &count);
  const u64 *words = image;
  window_base = *words++;
  window_bytes = *words++;
  device_id = *words++;
  reads_per_walk = *words++;
  memcpy(&chip, words, sizeof chip);
  words += sizeof chip / 8;
  request_count = *words++;
  words = image + 16;
  requests = room(request_count, sizeof *requests);
  memcpy(requests, words, request_count * sizeof *requests);
  words += request_count * sizeof *requests / 8;
  window = room(window_bytes / 8, 8);
  window_bias = (uintptr_t)window - window_base;
  for (; words < image + count; words += 2) {
    u64 *word = word_at(words[0]);
    if (word != NULL) *word = words[1];
  }
  free(image);
  devices = room(0x10000, sizeof *devices);
  tlb_log2 = 6;
  while (request_count * 4 > 3ull << tlb_log2) tlb_log2++;
  tlb = room((size_t)1 << tlb_log2, sizeof *tlb);
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  load_image(argv[1]);
  char line[4096];
  while (fgets(line, sizeof line, stdin) != NULL) {
    line[strcspn(line, "\n")] = 0;
    char *argument = strchr(line, ' ');
    if (argument == NULL) return 2;
    *argument++ = 0;
    if (strcmp(line, "cold") == 0) run(cold_pass, atof(argument));
    else if (strcmp(line, "fresh") == 0) run(fresh_pass, atof(argument));
    else if (strcmp(line, "hit") == 0) {
      cold_pass();
      run(hit_pass, atof(argument));
    } else if (strcmp(line, "loads") == 0) loads = read_file(argument, &load_count);
    else if (strcmp(line, "chase") == 0) run(chase_pass, atof(argument));
    else return 2;
  }
  return 0;
}

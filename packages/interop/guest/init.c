/*
 * The only program of the guest: makes the kernel map memory for the copy engine, has the engine copy through the
 * IOMMU, checks every byte, and provokes faults on purpose.
 *
 * It speaks VFIO (include/uapi/linux/vfio.h): what it maps, the kernel's amd_iommu driver writes into tables. Lines that
 * it prints for the host begin with "NW ". Statically linked, so the guest needs nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define PAGE 4096ull
#define MIB (1ull << 20)
#define MAX_MAPPINGS 64

/* Registers of the copy engine, as in copy-engine.ts. */
enum { SOURCE = 1, DESTINATION = 2, LENGTH = 3, COMMAND = 4, STATUS = 5, DONE = 6, MARK = 7 };
enum { GOOD = 0, READ_REFUSED = 1, WRITE_REFUSED = 2 };
#define MAGIC 0x4b4c415754534e45ull

struct mapping {
	uint64_t iova, size;
	uint8_t *memory;
	unsigned int flags;
	int is_live;
};

static struct mapping mappings[MAX_MAPPINGS];
static int mapping_count;
static volatile uint64_t *engine;
static int container;
static uint64_t last_iova;
static unsigned int good, refused, bad;

static void stop(void)
{
	fflush(stdout);
	sync();
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

static void die(const char *format, ...)
{
	int error = errno;
	va_list arguments;

	va_start(arguments, format);
	printf("NW DIED ");
	vprintf(format, arguments);
	printf(": %s\n", strerror(error));
	va_end(arguments);
	stop();
}

/* xorshift64: the same program does the same at every boot. */
static uint64_t random_state = 0x9e3779b97f4a7c15ull;

static uint64_t random_below(uint64_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % limit;
}

static int write_text(const char *path, const char *text)
{
	int file = open(path, O_WRONLY);
	int failed = file < 0 || write(file, text, strlen(text)) != (ssize_t)strlen(text);

	if (file >= 0)
		close(file);
	return failed ? -1 : 0;
}

/* /modules has a line for each module, in the order in which they go in. */
static void load_modules(void)
{
	FILE *list = fopen("/modules", "r");
	char line[256];

	if (!list)
		die("/modules");
	while (fgets(line, sizeof(line), list)) {
		char *parameters = strchr(line, ' ');
		int file;

		line[strcspn(line, "\n")] = 0;
		if (parameters)
			*parameters++ = 0;
		file = open(line, O_RDONLY | O_CLOEXEC);
		if (file < 0 || (syscall(SYS_finit_module, file, parameters ? parameters : "", 0) && errno != EEXIST))
			die("module %s", line);
		close(file);
	}
	fclose(list);
}

/* Opens the engine through VFIO: its group, a container, the device, BAR 0. */
static void open_engine(const char *address)
{
	struct vfio_region_info region = { .argsz = sizeof(region), .index = VFIO_PCI_BAR0_REGION_INDEX };
	struct vfio_group_status status = { .argsz = sizeof(status) };
	char path[128], link[256];
	int group, device;
	ssize_t length;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver_override", address);
	if (write_text(path, "vfio-pci") || write_text("/sys/bus/pci/drivers_probe", address))
		die("binding %s to vfio-pci", address);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", address);
	length = readlink(path, link, sizeof(link) - 1);
	if (length < 0) {
		printf("NW NO-IOMMU the kernel put %s in no IOMMU group\n", address);
		stop();
	}
	link[length] = 0;
	snprintf(path, sizeof(path), "/dev/vfio/%s", strrchr(link, '/') + 1);
	container = open("/dev/vfio/vfio", O_RDWR);
	group = open(path, O_RDWR);
	if (container < 0 || group < 0)
		die("%s", container < 0 ? "/dev/vfio/vfio" : path);
	if (ioctl(group, VFIO_GROUP_GET_STATUS, &status) || !(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		die("group not viable");
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container))
		die("VFIO_GROUP_SET_CONTAINER");
	if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		die("VFIO_SET_IOMMU");
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address);
	if (device < 0)
		die("VFIO_GROUP_GET_DEVICE_FD");
	if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &region))
		die("VFIO_DEVICE_GET_REGION_INFO");
	engine = mmap(NULL, region.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, (off_t)region.offset);
	if (engine == MAP_FAILED)
		die("BAR 0");
	if (engine[0] != MAGIC) {
		errno = 0;
		die("BAR 0 reads %llx, not the engine's magic", (unsigned long long)engine[0]);
	}
}

/* The highest IOVA that the kernel lets us map. */
static void read_iova_range(void)
{
	char buffer[4096] = { 0 };
	struct vfio_iommu_type1_info *info = (void *)buffer;
	uint32_t at;

	info->argsz = sizeof(buffer);
	if (ioctl(container, VFIO_IOMMU_GET_INFO, info))
		die("VFIO_IOMMU_GET_INFO");
	for (at = info->flags & VFIO_IOMMU_INFO_CAPS ? info->cap_offset : 0; at;) {
		struct vfio_info_cap_header *header = (void *)(buffer + at);

		if (header->id == VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE) {
			struct vfio_iommu_type1_info_cap_iova_range *ranges = (void *)header;

			last_iova = ranges->iova_ranges[ranges->nr_iovas - 1].end;
		}
		at = header->next;
	}
	printf("NW IOVA last %llx pages %llx\n", (unsigned long long)last_iova,
	       (unsigned long long)info->iova_pgsizes);
}

static uint64_t physical_of(int pagemap, const uint8_t *address)
{
	uint64_t entry = 0;

	if (pread(pagemap, &entry, 8, (off_t)((uintptr_t)address / PAGE * 8)) != 8 || !(entry >> 63))
		return 0;
	return (entry & ((1ull << 55) - 1)) * PAGE;
}

/* Says where a mapping lies in physical memory, by the kernel's own word: a line for each contiguous run. */
static void tell(const struct mapping *m)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY);
	uint64_t at, start = 0, first = physical_of(pagemap, m->memory);

	for (at = PAGE; at <= m->size; at += PAGE) {
		uint64_t here = at < m->size ? physical_of(pagemap, m->memory + at) : 0;

		if (at < m->size && here == first + (at - start))
			continue;
		printf("NW XLATE %llx %llx %llx %d %d\n", (unsigned long long)(m->iova + start),
		       (unsigned long long)(at - start), (unsigned long long)first,
		       !!(m->flags & VFIO_DMA_MAP_FLAG_READ), !!(m->flags & VFIO_DMA_MAP_FLAG_WRITE));
		start = at;
		first = here;
	}
	close(pagemap);
}

static struct mapping *map_at(uint64_t iova, uint64_t size, unsigned int flags)
{
	struct vfio_iommu_type1_dma_map map = { .argsz = sizeof(map), .flags = flags, .iova = iova, .size = size };
	struct mapping *m = &mappings[mapping_count];
	uint64_t room = size + (size >= 2 * MIB ? 2 * MIB : 0), n;
	uint8_t *memory = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED || mapping_count == MAX_MAPPINGS)
		die("memory");
	if (size >= 2 * MIB) {
		/* Large pages where the kernel has them: the driver then writes large entries. */
		memory = (uint8_t *)(((uintptr_t)memory + 2 * MIB - 1) & -(2 * MIB));
		madvise(memory, size, MADV_HUGEPAGE);
	}
	for (n = 0; n < size; n += 8)
		*(uint64_t *)(memory + n) = (iova + n) ^ 0x5a5a5a5a00000000ull;
	map.vaddr = (uintptr_t)memory;
	if (ioctl(container, VFIO_IOMMU_MAP_DMA, &map))
		die("VFIO_IOMMU_MAP_DMA of %llx bytes at %llx", (unsigned long long)size, (unsigned long long)iova);
	*m = (struct mapping){ iova, size, memory, flags, 1 };
	mapping_count++;
	tell(m);
	return m;
}

static void unmap(struct mapping *m)
{
	struct vfio_iommu_type1_dma_unmap unmap = { .argsz = sizeof(unmap), .iova = m->iova, .size = m->size };

	if (ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap) || unmap.size != m->size)
		die("VFIO_IOMMU_UNMAP_DMA at %llx", (unsigned long long)m->iova);
	m->is_live = 0;
	printf("NW UNMAP %llx %llx\n", (unsigned long long)m->iova, (unsigned long long)m->size);
}

static uint64_t copy(uint64_t source, uint64_t destination, uint64_t length)
{
	engine[SOURCE] = source;
	engine[DESTINATION] = destination;
	engine[LENGTH] = length;
	engine[COMMAND] = 1;
	return engine[STATUS];
}

static void count(int is_right, unsigned int *counter, const char *what, uint64_t source, uint64_t destination)
{
	if (is_right) {
		(*counter)++;
		return;
	}
	bad++;
	printf("NW BAD %s: from %llx to %llx, status %llx, done %llx\n", what, (unsigned long long)source,
	       (unsigned long long)destination, (unsigned long long)engine[STATUS],
	       (unsigned long long)engine[DONE]);
}

static int may(const struct mapping *m, unsigned int flag)
{
	return m->is_live && (m->flags & flag);
}

static struct mapping *pick(unsigned int flag)
{
	struct mapping *m;

	do
		m = &mappings[random_below((uint64_t)mapping_count)];
	while (!may(m, flag));
	return m;
}

/* A copy between two mappings that allow it, any offset and length; every byte is compared. */
static void copy_and_check(void)
{
	struct mapping *from = pick(VFIO_DMA_MAP_FLAG_READ), *to = pick(VFIO_DMA_MAP_FLAG_WRITE);
	uint64_t longest = from->size < to->size ? from->size : to->size, length, source, destination;
	uint64_t before, after;
	uint8_t *expected;

	if (longest > 64 * 1024)
		longest = 64 * 1024;
	length = 1 + random_below(longest);
	source = random_below(from->size - length + 1);
	destination = random_below(to->size - length + 1);
	if (from == to)
		destination = source;
	expected = malloc(length);
	memcpy(expected, from->memory + source, length);
	before = destination ? to->memory[destination - 1] : 0;
	after = destination + length < to->size ? to->memory[destination + length] : 0;
	if (copy(from->iova + source, to->iova + destination, length) != GOOD ||
	    memcmp(expected, to->memory + destination, length) ||
	    (destination && to->memory[destination - 1] != before) ||
	    (destination + length < to->size && to->memory[destination + length] != after))
		count(0, &good, "copy", from->iova + source, to->iova + destination);
	else
		count(1, &good, "copy", 0, 0);
	free(expected);
}

/* A copy that the IOMMU has to refuse, after `done` bytes. */
static void expect_refusal(uint64_t source, uint64_t destination, uint64_t length, uint64_t status, uint64_t done)
{
	int is_right = copy(source, destination, length) == status && engine[DONE] == done;

	count(is_right, &refused, "refusal", source, destination);
}

static void count_interrupts(void)
{
	FILE *interrupts = fopen("/proc/interrupts", "r");
	char line[1024];

	while (interrupts && fgets(line, sizeof(line), interrupts)) {
		char *at = strchr(line, ':');

		if (strstr(line, "AMD-Vi") && at)
			printf("NW INTERRUPTS %lu\n", strtoul(at + 1, NULL, 10));
	}
	if (interrupts)
		fclose(interrupts);
}

static void mark(uint64_t number)
{
	/* The host notes tables and registers while this write has not returned. */
	printf("NW MARK %llu\n", (unsigned long long)number);
	fflush(stdout);
	engine[MARK] = number;
}

static void run(void)
{
	const unsigned int rw = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
	struct mapping *read_only, *write_only, *again;
	uint64_t high;
	int n;

	mark(1);
	for (n = 0; n < 16; n++)
		map_at(0x100000 + (uint64_t)n * 0x10000, PAGE << (n & 3), rw);
	map_at(0x40000000, 2 * MIB, rw);
	map_at(0x40400000, 4 * MIB, rw);
	map_at(0x41000000 - PAGE, 64 * 1024, rw); /* across a border of lowest tables */
	map_at(0x80000000, 16 * MIB, rw);
	for (high = 1ull << 35; high && high < last_iova; high <<= 4)
		map_at(high, 128 * 1024, rw);
	/* Near the end; a range up to the very last byte is one that VFIO of 6.12 cannot unmap. */
	map_at((last_iova + 1 - 128 * 1024) & -PAGE, 64 * 1024, rw);
	read_only = map_at(0x20000000, 64 * 1024, VFIO_DMA_MAP_FLAG_READ);
	write_only = map_at(0x21000000, 64 * 1024, VFIO_DMA_MAP_FLAG_WRITE);
	printf("NW write-only at %llx\n", (unsigned long long)write_only->iova);
	for (n = 0; n < 200; n++)
		copy_and_check();
	mark(2);

	/* Nothing there; beside what is there; against the rights. */
	for (n = 0; n < 12; n++)
		expect_refusal(0x10000000 + (uint64_t)n * PAGE, 0x40000000, 64, READ_REFUSED, 0);
	for (n = 0; n < 6; n++)
		expect_refusal(0x40000000, 0x11000000 + (uint64_t)n * PAGE * 513, 64, WRITE_REFUSED, 0);
	for (n = 0; n < 6; n++)
		expect_refusal(0x40000000, read_only->iova + (uint64_t)n * PAGE, 64, WRITE_REFUSED, 0);
	/* Into a page that is missing, in the middle of a copy: what came before has arrived. */
	expect_refusal(0x40000000 + 2 * MIB - 100, 0x80000000, 200, READ_REFUSED, 100);
	expect_refusal(0x40000000, 0x80000000 + 16 * MIB - PAGE, 2 * PAGE, WRITE_REFUSED, PAGE);

	/* What was unmapped is gone at once, cached or not; another page at the same address is the other page. */
	for (n = 0; n < 12; n++) {
		struct mapping *m = &mappings[n];
		uint64_t iova = m->iova, size = m->size;

		if (copy(iova, 0x80000000, 64) != GOOD)
			count(0, &good, "copy before unmap", iova, 0x80000000);
		unmap(m);
		expect_refusal(iova, 0x80000000, 64, READ_REFUSED, 0);
		if (n % 2)
			continue;
		again = map_at(iova, size, rw);
		memset(again->memory, 0x30 + n, size);
		copy(iova, 0x80000000, size);
		count(!memcmp(mappings[19].memory, again->memory, size), &good, "copy after remap", iova, 0x80000000);
	}
	mark(3);
	for (n = 0; n < 120; n++)
		copy_and_check();
	for (n = 0; n < mapping_count; n++) {
		if (!mappings[n].is_live)
			continue;
		unmap(&mappings[n]);
	}
	for (n = 16; n < 20; n++)
		expect_refusal(mappings[n].iova, mappings[n].iova, 64, READ_REFUSED, 0);
	mark(4);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	mount("none", "/proc", "proc", 0, NULL);
	mount("none", "/sys", "sysfs", 0, NULL);
	mount("none", "/dev", "devtmpfs", 0, NULL);
	if (open("/dev/console", O_RDWR) >= 0) {
		dup2(open("/dev/console", O_RDWR), 0);
		dup2(0, 1);
		dup2(0, 2);
	}
	load_modules();
	open_engine("0000:00:04.0");
	read_iova_range();
	run();
	count_interrupts();
	printf("NW ENGINE good %u refused %u bad %u\n", good, refused, bad);
	stop();
	return 0;
}

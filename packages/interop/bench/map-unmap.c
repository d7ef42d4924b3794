/*
 * How many calls of /dev/iommu a program can make in a second: pairs of IOAS_MAP and IOAS_UNMAP of one page.
 *
 * Usage: map-unmap PAIRS. Prints calls a second, the best of five rounds.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

struct ioas_alloc { uint32_t size, flags, out_ioas_id; };
struct ioas_map { uint32_t size, flags, ioas_id, reserved; uint64_t user_va, length, iova; };
struct ioas_unmap { uint32_t size, ioas_id; uint64_t iova, length; };

#define IOAS_ALLOC 0x3b81
#define IOAS_MAP 0x3b85
#define IOAS_UNMAP 0x3b86
#define FIXED_READ_WRITE 7

static double seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static void call(int fd, unsigned long cmd, void *argument)
{
	if (ioctl(fd, cmd, argument) == 0)
		return;
	perror("ioctl");
	exit(1);
}

int main(int argc, char **argv)
{
	long pairs = argc > 1 ? atol(argv[1]) : 20000;
	double best = 0;
	int fd = open("/dev/iommu", O_RDWR);
	if (fd < 0) {
		perror("/dev/iommu");
		return 1;
	}
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct ioas_alloc ioas = { .size = sizeof(ioas) };
	call(fd, IOAS_ALLOC, &ioas);
	for (int round = 0; round < 5; round++) {
		double start = seconds();
		for (long i = 0; i < pairs; i++) {
			struct ioas_map map = { sizeof(map), FIXED_READ_WRITE, ioas.out_ioas_id, 0,
						(uintptr_t)page, 4096, 0x1000000 };
			struct ioas_unmap unmap = { sizeof(unmap), ioas.out_ioas_id, 0x1000000, 4096 };
			call(fd, IOAS_MAP, &map);
			call(fd, IOAS_UNMAP, &unmap);
		}
		double figure = 2 * pairs / (seconds() - start);
		if (figure > best)
			best = figure;
	}
	printf("%.0f\n", best);
	return 0;
}

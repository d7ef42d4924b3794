/*
 * A small VMM on /dev/iommu: a VM with two devices of one IOMMU group, to which its guest gives page tables of their own.
 * Scenario S01. It maps the guest's memory, makes a nest parent, a vIOMMU, two vDEVICEs and two nested HWPTs, attaches the
 * devices, and has each read the same guest-virtual address.
 *
 *   cc -o two-guest-domains two-guest-domains.c
 *   nestwalk exec --backend amd --extensions [--policy P] -- ./two-guest-domains
 *
 * Exit code 0: each device got its own page. 1: one was served the other's. 2: a call failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

/* include/uapi/linux/iommufd.h and vfio.h, as far as it takes. */
struct ioas_alloc { uint32_t size, flags, out_ioas_id; };
struct ioas_map { uint32_t size, flags, ioas_id, reserved; uint64_t user_va, length, iova; };
struct hwpt_alloc {
	uint32_t size, flags, dev_id, pt_id, out_hwpt_id, reserved, data_type, data_len;
	uint64_t data_uptr;
	uint32_t fault_id, reserved2;
};
struct viommu_alloc {
	uint32_t size, flags, type, dev_id, hwpt_id, out_viommu_id, data_len, reserved;
	uint64_t data_uptr;
};
struct vdevice_alloc { uint32_t size, viommu_id, dev_id, out_vdevice_id; uint64_t virt_id; };
struct vfio_bind { uint32_t argsz, flags; int32_t iommufd; uint32_t out_devid; };
struct vfio_attach { uint32_t argsz, flags, pt_id; };
/* docs/iommufd-extensions.md */
struct device_dma {
	uint32_t argsz, flags, pasid, length;
	uint64_t iova, buffer, out_spa;
	uint32_t out_from, out_filler;
	uint64_t out_event[2];
};

enum {
	IOAS_ALLOC = 0x3b81, IOAS_MAP = 0x3b85, HWPT_ALLOC = 0x3b89, VIOMMU_ALLOC = 0x3b90, VDEVICE_ALLOC = 0x3b91,
	BIND = 0x3b76, ATTACH = 0x3b77, DEVICE_DMA = 0x3bf0,
};
enum { MAP_FIXED_READ_WRITE = 7, NEST_PARENT = 1, AMD_GUEST = 3, AMD_VIOMMU = 3 };

#define GUEST_BYTES (16 << 20)
#define GUEST_VIRTUAL 0x40203000ull

static unsigned char *guest;

static void call(const char *what, int fd, unsigned long command, void *argument)
{
	if (ioctl(fd, command, argument) == 0)
		return;
	printf("%s: %s\n", what, strerror(errno));
	exit(2);
}

static uint64_t *words_at(uint64_t gpa)
{
	return (uint64_t *)(guest + gpa);
}

/* What the guest writes: a GCR3 table, four levels of page table below it, and a page with a name in it. */
static void make_guest_tables(uint64_t gcr3, uint64_t tables, uint64_t page, const char *name)
{
	const uint64_t table_bits = 0x27, page_bits = 0x67;
	const int index[] = { GUEST_VIRTUAL >> 39 & 511, GUEST_VIRTUAL >> 30 & 511, GUEST_VIRTUAL >> 21 & 511,
			      GUEST_VIRTUAL >> 12 & 511 };

	words_at(gcr3)[0] = tables | 1;
	for (int level = 0; level < 4; level++) {
		uint64_t next = level < 3 ? tables + (level + 1) * 0x1000 : page;
		words_at(tables + level * 0x1000)[index[level]] = next | (level < 3 ? table_bits : page_bits);
	}
	strcpy((char *)guest + page, name);
}

/* A nested HWPT from the guest's device table entry: V, TV, GV, GIoV, rights, DomainID, GCR3 root. */
static uint32_t nested_hwpt(int iommu, uint32_t device, uint32_t viommu, uint16_t guest_domain, uint64_t gcr3)
{
	uint64_t entry[4] = { 0x60c0000000000003ull | (gcr3 >> 12 & 7) << 58, guest_domain | (gcr3 >> 15 & 0xffff) << 16 };
	struct hwpt_alloc hwpt = { .size = sizeof(hwpt), .dev_id = device, .pt_id = viommu, .data_type = AMD_GUEST,
				   .data_len = sizeof(entry), .data_uptr = (uintptr_t)entry };

	call("HWPT_ALLOC, nested", iommu, HWPT_ALLOC, &hwpt);
	return hwpt.out_hwpt_id;
}

int main(void)
{
	const char *paths[] = { "/dev/vfio/devices/vfio2", "/dev/vfio/devices/vfio3" };
	const char *names[] = { "page of D1", "page of D2" };
	int iommu = open("/dev/iommu", O_RDWR), device[2], served_other = 0;
	uint32_t bound[2], nested[2];

	guest = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (iommu < 0 || guest == MAP_FAILED) {
		perror("/dev/iommu");
		return 2;
	}
	make_guest_tables(0x111000, 0x120000, 0x345000, names[0]);
	make_guest_tables(0x112000, 0x130000, 0x567000, names[1]);

	for (int i = 0; i < 2; i++) {
		struct vfio_bind bind = { .argsz = sizeof(bind), .iommufd = iommu };

		device[i] = open(paths[i], O_RDWR);
		if (device[i] < 0) {
			perror(paths[i]);
			return 2;
		}
		call("BIND", device[i], BIND, &bind);
		bound[i] = bind.out_devid;
	}
	struct ioas_alloc ioas = { .size = sizeof(ioas) };
	call("IOAS_ALLOC", iommu, IOAS_ALLOC, &ioas);
	struct ioas_map map = { sizeof(map), MAP_FIXED_READ_WRITE, ioas.out_ioas_id, 0, (uintptr_t)guest, GUEST_BYTES, 0 };
	call("IOAS_MAP", iommu, IOAS_MAP, &map);
	struct hwpt_alloc parent = { .size = sizeof(parent), .flags = NEST_PARENT, .dev_id = bound[0],
				     .pt_id = ioas.out_ioas_id };
	call("HWPT_ALLOC, nest parent", iommu, HWPT_ALLOC, &parent);
	struct viommu_alloc viommu = { .size = sizeof(viommu), .type = AMD_VIOMMU, .dev_id = bound[0],
				       .hwpt_id = parent.out_hwpt_id };
	call("VIOMMU_ALLOC", iommu, VIOMMU_ALLOC, &viommu);
	printf("IOAS %u, nest parent HWPT %u, vIOMMU %u\n", ioas.out_ioas_id, parent.out_hwpt_id, viommu.out_viommu_id);

	for (int i = 0; i < 2; i++) {
		struct vdevice_alloc vdevice = { sizeof(vdevice), viommu.out_viommu_id, bound[i], 0, 8 * (i + 1) };
		struct vfio_attach attach = { .argsz = sizeof(attach) };

		call("VDEVICE_ALLOC", iommu, VDEVICE_ALLOC, &vdevice);
		nested[i] = nested_hwpt(iommu, bound[i], viommu.out_viommu_id, i + 1, 0x111000 + 0x1000 * i);
		attach.pt_id = nested[i];
		call("ATTACH", device[i], ATTACH, &attach);
		printf("D%d: device %u, vDEVICE %u, guest DomainID %d on nested HWPT %u\n", i + 1, bound[i],
		       vdevice.out_vdevice_id, i + 1, nested[i]);
	}
	for (int i = 0; i < 2; i++) {
		char got[16] = "";
		struct device_dma dma = { .argsz = sizeof(dma), .length = sizeof(got), .iova = GUEST_VIRTUAL,
					  .buffer = (uintptr_t)got };

		call("DEVICE_DMA", device[i], DEVICE_DMA, &dma);
		printf("D%d reads 0x%llx: \"%s\"%s\n", i + 1, GUEST_VIRTUAL, got,
		       dma.out_from == 1 ? ", from the IOTLB" : "");
		served_other |= strcmp(got, names[i]) != 0;
	}
	puts(served_other ? "a device was served the other's page" : "each device got its own page");
	return served_other;
}

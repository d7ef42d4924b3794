/*
 * An ordinary program that uses /dev/iommu; test/fake-kernel.ts says what the calls do. Prints a line for each check.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SUM = 1, OPEN_AT, OPEN_AS_RESULT, COUNT_OPEN, COPY, FILE_KIND, WHO, KEEP, KEEP_FILE, READ_KEPT, WRITE_KEPT,
       LET_GO, REGION, FAIL, REFUSE };
enum { PAGE = 4096, HUGE_PAGE = 2 << 20 };

static int fd;
static uint64_t words[8];

static void check(const char *name, bool is_so)
{
  int error = errno;

  printf("%s - %s%s%s\n", is_so ? "ok" : "not ok", name, is_so ? "" : ": ", is_so ? "" : strerror(error));
  fflush(stdout);
}

static int call(unsigned long command, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
  memcpy(words, (uint64_t[]){a, b, c, d}, 4 * sizeof(*words));
  return ioctl(fd, command, words);
}

static uint64_t open_files(void)
{
  call(COUNT_OPEN, 0, 0, 0, 0);
  return words[0];
}

static void *memory(int protection, int flags)
{
  return mmap(NULL, 4 * PAGE, protection, flags | MAP_ANONYMOUS, -1, 0);
}

static uint64_t physical_of(const void *address)
{
  if (call(KEEP, (uint64_t)address, 1, 0, 0) < 0)
    return 0;
  uint64_t physical = words[2];
  call(LET_GO, 0, 0, 0, 0);
  return physical;
}

static void wait_for(pid_t child)
{
  waitpid(child, NULL, 0);
}

static void check_calls(void)
{
  int other = -1;
  bool all_at_once = true;

  check("an ioctl reads and writes its structure", call(SUM, 40, 2, 0, 0) == 0 && words[2] == 42);
  check("an ioctl without memory is EFAULT", ioctl(fd, SUM, NULL) == -1 && errno == EFAULT);
  check("memory that may not be written is EFAULT",
        call(COPY, (uint64_t)words, (uint64_t)memory(PROT_READ, MAP_PRIVATE), 8, 0) == -1 && errno == EFAULT);
  check("a refused call writes too", call(REFUSE, 0, 0, 0, 0) == -1 && errno == EBADE && words[0] == 1);
  check("a file is opened at an address", call(OPEN_AT, (uint64_t)&other, 0, 0, 0) == 0 && other > fd);
  check("and is close-on-exec", fcntl(other, F_GETFD) == FD_CLOEXEC);
  check("it is open", open_files() == 2);
  check("it is known as one of the kernel's", call(FILE_KIND, other, 0, 0, 0) == 0 && words[1] == 1);
  close(other);
  check("it is closed when close returns", open_files() == 1);
  for (int i = 0; i < 300; i++) {
    other = call(OPEN_AS_RESULT, 0, 0, 0, 0);
    close(other);
    all_at_once = all_at_once && open_files() == 1;
  }
  check("so it is three hundred times", all_at_once);
  for (int i = 0; i < 3000; i++) {
    other = call(OPEN_AS_RESULT, 0, 0, 0, 0);
    call(SUM, 0, 0, 0, 0);
    /* As when another process ends: nothing but the end of the stream tells. */
    syscall(SYS_close, other);
    all_at_once = all_at_once && open_files() == 1;
  }
  check("and when nobody waits for it", all_at_once);
  check("a descriptor that is not open is none", call(FILE_KIND, 800, 0, 0, 0) == 0 && words[1] == 0);
  check("standard input is another file", call(FILE_KIND, 0, 0, 0, 0) == 0 && words[1] == 3);
  check("the process has the rights it was granted", call(WHO, 0, 0, 0, 0) == 0 && words[0] == getuid() && words[1] & 2);
  check("a VFIO device that is there opens", (other = open("/dev/vfio/devices/vfio7", O_RDWR)) >= 0);
  close(other);
  check("one that is not is ENODEV", open("/dev/vfio/devices/vfio8", O_RDWR) == -1 && errno == ENODEV);
  check("the container opens", (other = open("/dev/vfio/vfio", O_RDWR)) >= 0);
  close(other);
}

static void check_streams(void)
{
  unsigned char bytes[3] = {9, 8, 7};
  struct pollfd asked[] = {{fd, POLLIN | POLLOUT, 0}, {fd, POLLIN, 0}};

  check("write", write(fd, bytes, 3) == 3);
  check("pwrite", pwrite(fd, bytes, 2, 16) == 2);
  check("read", read(fd, bytes, 3) == 3 && bytes[2] == 0xff);
  check("pread", pread(fd, bytes, 2, 40) == 2 && bytes[1] == 40);
  check("a read into nothing is EFAULT", read(fd, NULL, 2) == -1 && errno == EFAULT);
  check("poll", poll(asked, 2, -1) == 1 && asked[0].revents == POLLOUT && asked[1].revents == 0);
  check("poll with nothing to tell ends in time", poll(asked + 1, 1, 20) == 0);
}

static void check_memory(void)
{
  char *shared = memory(PROT_READ | PROT_WRITE, MAP_SHARED);
  char *private = memory(PROT_READ | PROT_WRITE, MAP_PRIVATE);
  char *read_only = memory(PROT_READ, MAP_SHARED);
  int memfd = memfd_create("probe", 0), file = open("/proc/self/exe", O_RDONLY);
  char *of_file;

  private[0] = 1;
  ftruncate(memfd, 2 * PAGE);
  of_file = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
  check("pages of shared memory are neighbours", physical_of(shared + PAGE) == physical_of(shared) + PAGE);
  check("a page is the same each time", physical_of(private) && physical_of(private) == physical_of(private));
  check("others are others", physical_of(private) != physical_of(shared) && physical_of(shared) != physical_of(of_file));
  check("a whole mapping is one run", call(KEEP, (uint64_t)shared, 4, 0, 1) == 1);
  shared[PAGE] = 55;
  check("what is pinned is read", call(READ_KEPT, PAGE, 0, 0, 0) == 0 && words[1] == 55);
  check("and written", call(WRITE_KEPT, 3, 77, 0, 0) == 0 && shared[3] == 77);
  munmap(shared, PAGE);
  /* Without root the server has no way to it but through a mapping. */
  check("also when it is mapped no more", geteuid() || (call(READ_KEPT, 3, 0, 0, 0) == 0 && words[1] == 77));
  call(LET_GO, 0, 0, 0, 0);
  check("nothing is EFAULT", call(KEEP, (uint64_t)shared, 1, 0, 0) == -1 && errno == EFAULT);
  check("memory to read only is EFAULT for writing", call(KEEP, (uint64_t)read_only, 1, 0, 1) == -1 && errno == EFAULT);
  check("but not for reading", call(KEEP, (uint64_t)read_only, 1, 0, 0) == 1);
  call(LET_GO, 0, 0, 0, 0);
  check("memory of the kernel's end is EFAULT", call(KEEP, -4096, 1, 0, 0) == -1 && errno == EFAULT);
  check("a memfd is shared memory", call(FILE_KIND, memfd, 0, 0, 0) == 0 && words[1] == 2);
  check("its pages are those of its mapping",
        call(KEEP_FILE, memfd, PAGE, 0, 0) == 1 && words[2] == physical_of(of_file) + PAGE);
  call(KEEP_FILE, memfd, PAGE, 0, 0);
  of_file[PAGE + 5] = 66;
  check("and are read as they are", call(READ_KEPT, 5, 0, 0, 0) == 0 && words[1] == 66);
  check("a page past its end is EINVAL", call(KEEP_FILE, memfd, 2 * PAGE, 0, 0) == -1 && errno == EINVAL);
  check("so is a file on a disk", call(KEEP_FILE, file, 0, 0, 0) == -1 && errno == EINVAL);
  ftruncate(memfd, PAGE);
  check("an address past the end of its file is EFAULT",
        call(KEEP, (uint64_t)of_file + PAGE, 1, 0, 0) == -1 && errno == EFAULT);
  close(memfd);
  close(file);
}

static void check_fork(void)
{
  char *shared = memory(PROT_READ | PROT_WRITE, MAP_SHARED);
  char *private = memory(PROT_READ | PROT_WRITE, MAP_PRIVATE);
  uint64_t mine = physical_of(shared), own = physical_of(private), *theirs = (uint64_t *)(shared + PAGE);
  int other = call(OPEN_AS_RESULT, 0, 0, 0, 0);
  pid_t child = fork();

  if (!child) {
    theirs[0] = physical_of(shared);
    theirs[1] = physical_of(private);
    call(OPEN_AS_RESULT, 0, 0, 0, 0);
    call(KEEP, (uint64_t)shared, 1, 0, 1);
    /* And leaves, with two files open. */
    _exit(0);
  }
  wait_for(child);
  check("shared memory is the same in a child", theirs[0] == mine);
  check("private memory is not", theirs[1] && theirs[1] != own);
  check("what a child has opened is closed when it has ended", open_files() == 2);
  shared[9] = 99;
  check("what a child has pinned stays when it has ended", call(READ_KEPT, 9, 0, 0, 0) == 0 && words[1] == 99);
  call(LET_GO, 0, 0, 0, 0);
  child = fork();
  if (!child) {
    for (int i = 0; i < 200 && shared[0] == 0; i++)
      usleep(10000);
    _exit(0);
  }
  close(other);
  check("a file that a child has too stays open", open_files() == 2);
  shared[0] = 1;
  wait_for(child);
  check("until the child has ended", open_files() == 1);
  child = fork();
  if (!child) {
    call(KEEP, (uint64_t)private, 1, 0, 1);
    _exit(0);
  }
  wait_for(child);
  check("private memory ends with its process", call(READ_KEPT, 0, 0, 0, 0) == -1 && errno == EFAULT);
  call(LET_GO, 0, 0, 0, 0);
}

static void check_region(void)
{
  unsigned char *region = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, PAGE);

  check("a region is mapped", region != MAP_FAILED && region[0] == 0x5a);
  if (region == MAP_FAILED)
    return;
  region[0] = 0x33;
  check("the kernel sees what is written", call(REGION, 0, 0x44, 0, 0) == 0 && words[0] == 0x33);
  check("and the other way", region[0] == 0x44);
  check("it is unmapped", munmap(region, 2 * PAGE) == 0);
  check("another offset is ENXIO",
        mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED && errno == ENXIO);
}

static long pinned_kilobytes(void)
{
  FILE *status = fopen("/proc/self/status", "r");
  char line[256];
  long value = -1;

  while (status && fgets(line, sizeof(line), status))
    sscanf(line, "VmPin: %ld", &value);
  if (status)
    fclose(status);
  return value;
}

static void check_rest(void)
{
  char path[64], text[16] = "", *huge;
  int file;

  check("pinned memory shows in the status", pinned_kilobytes() == 4);
  huge = mmap(NULL, HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
  check("there are huge pages, or as good as", huge != MAP_FAILED && (uintptr_t)huge % HUGE_PAGE == 0);
  snprintf(path, sizeof(path), "/proc/self/task/%d/fail-nth", getpid());
  file = open(path, O_RDWR);
  check("fail-nth is armed and read",
        file >= 0 && pwrite(file, "17", 2, 0) == 2 && pread(file, text, 16, 0) == 3 && !strcmp(text, "17\n"));
  close(file);
  check("the debug file system is there",
        openat(dirfd(opendir("/sys/kernel/debug/")), "failslab/ignore-gfp-wait", O_WRONLY) >= 0);
  check("close of a file that is not open is EBADF", close(700) == -1 && errno == EBADF);
}

int main(void)
{
  fd = open("/dev/iommu", O_RDWR);
  check("it opens", fd >= 0);
  if (fd < 0)
    return 1;
  check_calls();
  check_streams();
  check_memory();
  check_fork();
  check_region();
  check_rest();
  close(fd);
  check("a file that was closed is EBADF", ioctl(fd, SUM, words) == -1 && errno == EBADF);
  return 0;
}

/*
 * Lets an unmodified program use a /dev/iommu that a server in user space provides.
 *
 *   cc -O2 -shared -fPIC -o iommufd-shim.so iommufd-shim.c -ldl
 *   IOMMUFD_SHIM_SOCKET=/path/of/socket LD_PRELOAD=./iommufd-shim.so program
 *
 * Opening /dev/iommu, /dev/vfio/vfio or /dev/vfio/devices/vfioN, and each call on a descriptor that results, goes to the
 * server; everything else passes through.
 *
 * An open file is a connection of its own, and its socket is the descriptor that the program gets: so the kernel counts
 * the users of it over fork, close and exit, and the server sees the end of the stream when the last one is gone. Calls
 * go over one more connection of each process, one at a time.
 *
 * Not caught: dup, epoll, select, and system calls made without the C library.
 *
 * Options, in the environment:
 *   IOMMUFD_SHIM_SOCKET      the server's socket; without it the shim does nothing
 *   IOMMUFD_SHIM_GRANT_CAPS  mask (hexadecimal) of capabilities that the server is told of besides the effective ones
 *   IOMMUFD_SHIM_HUGETLB     plain memory, aligned to 2 MiB, where mmap has no huge pages to give
 *   IOMMUFD_SHIM_FAIL_NTH    a fault injection interface as of a kernel built for it, with the server behind
 *   IOMMUFD_SHIM_DEBUG       says on standard error what goes wrong with the server
 */
#define _GNU_SOURCE
/* Both names of a call are defined here: neither may be an alias of the other. */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* ---- Messages: u32 length with the header, u16 type, u16 0, and the body; little-endian. ---- */

enum message_type {
  HELLO = 1,
  OPEN = 2,
  ATTACH = 3,
  IOCTL = 16,
  READ = 17,
  WRITE = 18,
  POLL = 19,
  MMAP = 20,
  MUNMAP = 21,
  BARRIER = 22,
  PROCSTATUS = 23,
  MEM_READ = 32,
  MEM_REPLY = 33,
  MEM_WRITE = 34,
  RESULT = 48,
};

enum file_kind { KIND_ATTACHED = 0, KIND_IOMMU = 1, KIND_VFIO = 2, KIND_FAIL_NTH = 3, KIND_VFIO_DEVICE = 4 };

struct header {
  uint32_t length;
  uint16_t type;
  uint16_t zero;
};

struct result {
  int64_t ret;
  int32_t error;
  uint32_t writes;
  uint32_t files;
  uint32_t data_bytes;
};

/* A descriptor of ours, as it stands in IOCTL messages. */
struct caught {
  int32_t fd;
  uint32_t kind;
  uint64_t handle;
};

enum {
  PROTOCOL_VERSION = 1,
  FD_LIMIT = 65536,
  FILE_LIMIT = 1024,
  REGION_LIMIT = 64,
  ARGUMENT_BYTES = 256,
  CHUNK_BYTES = 65536,
  PAGE = 4096,
  CONTROL_FD = 900,
  HUGE_PAGE = 2 << 20,
};

/* ---- State. All of it is under the lock. ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct {
  bool read;
  const char *socket;
  uint64_t granted_capabilities;
  bool gives_plain_for_huge;
  bool has_fail_nth;
  bool debug;
} options;

static struct caught files[FILE_LIMIT];
static unsigned file_count;
/* One more than the place in `files`; 0: not ours. */
static uint16_t place_of_fd[FD_LIMIT];

static struct {
  char *start;
  size_t length;
  uint64_t number;
} regions[REGION_LIMIT];
static unsigned region_count;

static struct {
  int fd;
  pid_t pid;
  /* What has come and was not taken. */
  size_t from, to;
  uint8_t buffer[CHUNK_BYTES];
} control = {.fd = -1};

/* Descriptor of the folder that was opened as /sys/kernel/debug. */
static int debug_folder_fd = -1;

static void read_options(void)
{
  const char *caps = getenv("IOMMUFD_SHIM_GRANT_CAPS");

  options.socket = getenv("IOMMUFD_SHIM_SOCKET");
  if (options.socket && !*options.socket)
    options.socket = NULL;
  options.granted_capabilities = caps ? strtoull(caps, NULL, 16) : 0;
  options.gives_plain_for_huge = getenv("IOMMUFD_SHIM_HUGETLB") != NULL;
  options.has_fail_nth = getenv("IOMMUFD_SHIM_FAIL_NTH") != NULL;
  options.debug = getenv("IOMMUFD_SHIM_DEBUG") != NULL;
  options.read = true;
}

static bool is_on(void)
{
  if (!options.read)
    read_options();
  return options.socket != NULL;
}

static void complain(const char *what)
{
  if (options.debug)
    dprintf(STDERR_FILENO, "iommufd-shim[%d]: %s: %s\n", getpid(), what, strerror(errno));
}

static struct caught *file_of(int fd)
{
  if (fd < 0 || fd >= FD_LIMIT || !place_of_fd[fd])
    return NULL;
  return &files[place_of_fd[fd] - 1];
}

static void forget_file(int fd)
{
  struct caught *file = file_of(fd);

  if (!file)
    return;
  *file = files[--file_count];
  place_of_fd[file->fd] = place_of_fd[fd];
  place_of_fd[fd] = 0;
}

static bool remember_file(int fd, uint32_t kind, uint64_t handle)
{
  forget_file(fd);
  if (fd >= FD_LIMIT || file_count == FILE_LIMIT)
    return false;
  files[file_count] = (struct caught){fd, kind, handle};
  place_of_fd[fd] = ++file_count;
  return true;
}

/* ---- The lock, with signals kept away: a handler that made a call of ours would wait for itself. ---- */

static void enter(sigset_t *before)
{
  sigset_t all;

  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, before);
  pthread_mutex_lock(&lock);
}

static void leave(const sigset_t *before)
{
  pthread_mutex_unlock(&lock);
  pthread_sigmask(SIG_SETMASK, before, NULL);
}

static void drop_control(void)
{
  if (control.fd >= 0)
    syscall(SYS_close, control.fd);
  control.fd = -1;
  control.from = control.to = 0;
}

static void before_fork(void)
{
  pthread_mutex_lock(&lock);
}

static void in_parent(void)
{
  pthread_mutex_unlock(&lock);
}

/* The child speaks over a connection of its own; the server does not count its copies of regions. */
static void in_child(void)
{
  pthread_mutex_init(&lock, NULL);
  drop_control();
  region_count = 0;
}

__attribute__((constructor)) static void start(void)
{
  if (is_on())
    pthread_atfork(before_fork, in_parent, in_child);
}

/* ---- The program's memory, which may not be there: the kernel looks, and nothing crashes. ---- */

/* How many bytes could be read: from the start up to the first page that is not there. */
static size_t fetch(uint64_t address, void *into, size_t bytes)
{
  struct iovec local = {into, bytes};
  size_t in_first_page = PAGE - address % PAGE;
  struct iovec remote[2] = {
    {(void *)address, bytes < in_first_page ? bytes : in_first_page},
    {(void *)(address + in_first_page), bytes < in_first_page ? 0 : bytes - in_first_page},
  };
  ssize_t got = syscall(SYS_process_vm_readv, getpid(), &local, 1, remote, 2, 0);

  if (got < 0 && errno != EFAULT)
    complain("process_vm_readv");
  return got < 0 ? 0 : (size_t)got;
}

static bool store(uint64_t address, const void *from, size_t bytes)
{
  struct iovec local = {(void *)from, bytes};
  struct iovec remote = {(void *)address, bytes};

  return syscall(SYS_process_vm_writev, getpid(), &local, 1, &remote, 1, 0) == (ssize_t)bytes;
}

/* ---- Streams. ---- */

static bool send_all(int fd, struct iovec *parts, size_t count)
{
  while (count) {
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    ssize_t sent = syscall(SYS_sendmsg, fd, &message, MSG_NOSIGNAL);

    if (sent < 0)
      return false;
    while (count && (size_t)sent >= parts->iov_len) {
      sent -= parts->iov_len;
      parts++;
      count--;
    }
    if (count) {
      parts->iov_base = (char *)parts->iov_base + sent;
      parts->iov_len -= sent;
    }
  }
  return true;
}

static bool send_message(int fd, uint16_t type, const void *body, size_t bytes, const void *rest, size_t rest_bytes)
{
  struct header header = {sizeof(header) + bytes + rest_bytes, type, 0};
  struct iovec parts[] = {
    {&header, sizeof(header)},
    {(void *)body, bytes},
    {(void *)rest, rest_bytes},
  };

  return send_all(fd, parts, 3);
}

static bool receive_all(int fd, void *into, size_t bytes)
{
  while (bytes) {
    ssize_t got = syscall(SYS_recvfrom, fd, into, bytes, 0, NULL, NULL);

    if (got <= 0) {
      if (!got)
        errno = ECONNRESET;
      return false;
    }
    into = (char *)into + got;
    bytes -= got;
  }
  return true;
}

/* Takes bytes off the control connection. */
static bool take(void *into, size_t bytes)
{
  while (bytes) {
    size_t held = control.to - control.from;
    size_t now = bytes < held ? bytes : held;

    if (!held) {
      ssize_t got = syscall(SYS_recvfrom, control.fd, control.buffer, sizeof(control.buffer), 0, NULL, NULL);

      if (got <= 0) {
        if (!got)
          errno = ECONNRESET;
        return false;
      }
      control.from = 0;
      control.to = got;
      continue;
    }
    memcpy(into, control.buffer + control.from, now);
    control.from += now;
    into = (char *)into + now;
    bytes -= now;
  }
  return true;
}

/* Takes bytes and puts them at an address of the program; `*is_bad` where there is no memory for them. */
static bool take_to(uint64_t address, size_t bytes, bool *is_bad)
{
  uint8_t chunk[PAGE];

  while (bytes) {
    size_t now = bytes < sizeof(chunk) ? bytes : sizeof(chunk);

    if (!take(chunk, now))
      return false;
    if (!*is_bad && !store(address, chunk, now))
      *is_bad = true;
    address += now;
    bytes -= now;
  }
  return true;
}

/* ---- Connections. ---- */

static int connect_to_server(int flags)
{
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int fd;

  if (strlen(options.socket) >= sizeof(address.sun_path)) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy(address.sun_path, options.socket);
  fd = syscall(SYS_socket, AF_UNIX, SOCK_STREAM | flags, 0);
  if (fd < 0)
    return -1;
  if (syscall(SYS_connect, fd, &address, sizeof(address)) < 0) {
    int error = errno;

    complain(options.socket);
    syscall(SYS_close, fd);
    errno = error;
    return -1;
  }
  return fd;
}

/* A file connection: what opens it is the first message. Returns the descriptor. */
static int open_connection(uint16_t type, uint64_t what, uint32_t kind, int flags)
{
  struct {
    uint64_t what;
    uint32_t flags, pid;
  } request = {what, flags, getpid()};
  struct {
    struct header header;
    int32_t error;
    uint32_t zero;
    uint64_t handle;
  } answer;
  int fd = connect_to_server(flags & O_CLOEXEC ? SOCK_CLOEXEC : 0);
  int error = 0;

  if (fd < 0)
    return -1;
  if (!send_message(fd, type, &request, sizeof(request), NULL, 0) || !receive_all(fd, &answer, sizeof(answer)))
    error = errno;
  else if (answer.header.type != RESULT || answer.header.length != sizeof(answer))
    error = EPROTO;
  else if (answer.error)
    error = answer.error;
  else if (!remember_file(fd, kind, answer.handle))
    error = EMFILE;
  if (!error)
    return fd;
  syscall(SYS_close, fd);
  errno = error;
  return -1;
}

/* The connection of this process for its calls, made anew after fork. */
static bool have_control(void)
{
  struct {
    uint32_t version, pid, uid, page_bytes;
  } hello = {PROTOCOL_VERSION, getpid(), getuid(), PAGE};
  struct ucred server;
  socklen_t bytes = sizeof(server);
  int fd, high;

  if (control.fd >= 0 && control.pid == (pid_t)hello.pid)
    return true;
  drop_control();
  fd = connect_to_server(SOCK_CLOEXEC);
  if (fd < 0)
    return false;
  /* Out of the way: programs expect the lowest numbers for their own files. */
  high = syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, CONTROL_FD);
  if (high >= 0) {
    syscall(SYS_close, fd);
    fd = high;
  }
  /* The server reads this process' memory; where only a parent may, this allows it. */
  if (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &server, &bytes))
    prctl(PR_SET_PTRACER, server.pid, 0, 0, 0);
  control.fd = fd;
  control.pid = hello.pid;
  if (send_message(fd, HELLO, &hello, sizeof(hello), NULL, 0))
    return true;
  drop_control();
  return false;
}

/* ---- Requests. ---- */

static bool serve_memory_read(void)
{
  struct {
    uint64_t address;
    uint32_t bytes;
  } __attribute__((packed)) request;
  struct {
    int32_t error;
    uint32_t moved;
  } reply = {EFAULT, 0};
  uint8_t chunk[CHUNK_BYTES];

  if (!take(&request, sizeof(request)))
    return false;
  if (request.bytes <= sizeof(chunk) && fetch(request.address, chunk, request.bytes) == request.bytes)
    reply = (typeof(reply)){0, request.bytes};
  return send_message(control.fd, MEM_REPLY, &reply, sizeof(reply), chunk, reply.moved);
}

static bool serve_memory_write(void)
{
  struct {
    uint64_t address;
    uint32_t bytes, zero;
  } request;
  struct {
    int32_t error;
    uint32_t moved;
  } reply;
  bool is_bad = false;

  if (!take(&request, sizeof(request)) || !take_to(request.address, request.bytes, &is_bad))
    return false;
  reply = (typeof(reply)){is_bad ? EFAULT : 0, is_bad ? 0 : request.bytes};
  return send_message(control.fd, MEM_REPLY, &reply, sizeof(reply), NULL, 0);
}

/* Writes of a result, each padded to 8 bytes. */
static bool take_writes(struct result *result)
{
  bool is_bad = false;

  for (uint32_t i = 0; i < result->writes; i++) {
    struct {
      uint64_t address;
      uint32_t bytes, zero;
    } write;
    uint8_t padding[8];

    if (!take(&write, sizeof(write)) || !take_to(write.address, write.bytes, &is_bad) ||
        !take(padding, -write.bytes % 8))
      return false;
  }
  if (is_bad && !result->error)
    result->error = EFAULT;
  return true;
}

/* Files that the call has opened: each gets its connection, and its number goes where the program wants it. */
static bool take_files(struct result *result)
{
  for (uint32_t i = 0; i < result->files; i++) {
    struct {
      uint64_t handle, address;
      uint32_t is_close_on_exec, zero;
    } file;
    int32_t fd;

    if (!take(&file, sizeof(file)))
      return false;
    if (result->error)
      continue;
    fd = open_connection(ATTACH, file.handle, KIND_ATTACHED, file.is_close_on_exec ? O_CLOEXEC : 0);
    if (fd < 0)
      result->error = errno;
    else if (!file.address)
      result->ret = fd;
    else if (!store(file.address, &fd, sizeof(fd)))
      result->error = EFAULT;
  }
  return true;
}

/* Serves the server's questions until the result is there; `data` takes what comes with it. */
static bool take_result(struct result *result, uint64_t data, size_t room)
{
  struct header header;
  bool is_bad = false;
  uint8_t rest;

  for (;;) {
    if (!take(&header, sizeof(header)))
      return false;
    if (header.type == RESULT)
      break;
    if (header.type == MEM_READ ? !serve_memory_read() : header.type != MEM_WRITE || !serve_memory_write())
      return false;
  }
  if (!take(result, sizeof(*result)) || !take_writes(result) || !take_files(result))
    return false;
  if (result->data_bytes < room)
    room = result->data_bytes;
  if (!take_to(data, room, &is_bad))
    return false;
  for (size_t i = room; i < result->data_bytes; i++)
    if (!take(&rest, 1))
      return false;
  if (is_bad && !result->error)
    result->error = EFAULT;
  return true;
}

struct request {
  uint16_t type;
  const void *body;
  size_t bytes;
  /* More of the body. */
  const void *rest;
  size_t rest_bytes;
  /* Where what comes with the result goes. */
  void *data;
  size_t data_room;
};

/* One request and its result, under the lock. Returns what the call returns, with errno. */
static int64_t ask(const struct request *request)
{
  struct result result;
  int error = errno;

  if (!have_control())
    return -1;
  if (!send_message(control.fd, request->type, request->body, request->bytes, request->rest, request->rest_bytes) ||
      !take_result(&result, (uint64_t)request->data, request->data_room)) {
    complain("the server is gone");
    drop_control();
    errno = EIO;
    return -1;
  }
  errno = result.error ? result.error : error;
  return result.error ? -1 : result.ret;
}

static uint64_t effective_capabilities(void)
{
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {{0}};

  syscall(SYS_capget, &header, data);
  return ((uint64_t)data[1].effective << 32 | data[0].effective) | options.granted_capabilities;
}

static int64_t ask_ioctl(const struct caught *file, unsigned long command, uint64_t argument)
{
  static struct {
    uint64_t handle;
    uint32_t command, pid;
    uint64_t argument, capabilities;
    uint32_t bytes, files;
    uint8_t rest[sizeof(files) + ARGUMENT_BYTES];
  } body;
  size_t list_bytes = file_count * sizeof(*files);

  body.handle = file->handle;
  body.command = command;
  body.pid = getpid();
  body.argument = argument;
  body.capabilities = effective_capabilities();
  body.files = file_count;
  memcpy(body.rest, files, list_bytes);
  body.bytes = fetch(argument, body.rest + list_bytes, ARGUMENT_BYTES);
  return ask(&(struct request){IOCTL, &body, offsetof(typeof(body), rest) + list_bytes + body.bytes});
}

static int64_t ask_read(const struct caught *file, void *into, size_t count, int64_t offset)
{
  struct {
    uint64_t handle, count;
    int64_t offset;
  } body = {file->handle, count, offset};

  return ask(&(struct request){READ, &body, sizeof(body), .data = into, .data_room = count});
}

static int64_t ask_write(const struct caught *file, const void *from, size_t count, int64_t offset)
{
  static uint8_t chunk[CHUNK_BYTES];
  struct {
    uint64_t handle;
    int64_t offset;
    uint64_t count;
  } body = {file->handle, offset, count};
  size_t most = count < sizeof(chunk) ? count : sizeof(chunk);
  size_t bytes = fetch((uint64_t)from, chunk, most);

  return ask(&(struct request){WRITE, &body, sizeof(body), chunk, bytes});
}

static int64_t ask_poll(const struct caught *file, short events)
{
  struct {
    uint64_t handle;
    uint32_t events, zero;
  } body = {file->handle, (uint16_t)events, 0};

  return ask(&(struct request){POLL, &body, sizeof(body)});
}

static void ask_munmap(uint64_t region)
{
  ask(&(struct request){MUNMAP, &region, sizeof(region)});
}

/* ---- Mapping a region of the server: a file that both map. ---- */

static void *map_region(const struct caught *file, void *address, size_t length, int protection, int flags, off_t offset)
{
  struct {
    uint64_t handle, length;
    uint32_t protection, flags;
    uint64_t offset;
  } body = {file->handle, length, protection, flags, offset};
  char path[512] = "";
  int64_t region = ask(&(struct request){MMAP, &body, sizeof(body), .data = path, .data_room = sizeof(path) - 1});
  void *result = MAP_FAILED;
  int fd, error;

  if (region < 0)
    return MAP_FAILED;
  fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
  if (fd >= 0) {
    result = (void *)syscall(SYS_mmap, address, length, protection, flags, fd, 0);
    error = errno;
    syscall(SYS_close, fd);
    errno = error;
  }
  if (result != MAP_FAILED && region_count < REGION_LIMIT) {
    regions[region_count].start = result;
    regions[region_count].length = length;
    regions[region_count++].number = region;
    return result;
  }
  error = result == MAP_FAILED ? errno : ENOMEM;
  if (result != MAP_FAILED)
    syscall(SYS_munmap, result, length);
  ask_munmap(region);
  errno = error;
  return MAP_FAILED;
}

/* Tells the server of regions that lie wholly in what was unmapped. */
static void unmap_regions(char *start, size_t length)
{
  for (unsigned i = region_count; i-- > 0;) {
    uint64_t number = regions[i].number;

    if (regions[i].start < start || regions[i].start + regions[i].length > start + length)
      continue;
    regions[i] = regions[--region_count];
    ask_munmap(number);
  }
}

/* Memory as of huge pages, but of small ones: aligned to 2 MiB where the place may be chosen. */
static void *map_plain_for_huge(void *address, size_t length, int protection, int flags)
{
  char *space, *aligned;

  flags &= ~(MAP_HUGETLB | (MAP_HUGE_MASK << MAP_HUGE_SHIFT));
  if (flags & MAP_FIXED)
    return (void *)syscall(SYS_mmap, address, length, protection, flags, -1, 0);
  space = (char *)syscall(SYS_mmap, NULL, length + HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (space == MAP_FAILED)
    return MAP_FAILED;
  aligned = (char *)(((uintptr_t)space + HUGE_PAGE - 1) & -(uintptr_t)HUGE_PAGE);
  if (aligned > space)
    syscall(SYS_munmap, space, aligned - space);
  syscall(SYS_munmap, aligned + length, space + HUGE_PAGE - aligned);
  return (void *)syscall(SYS_mmap, aligned, length, protection, flags | MAP_FIXED, -1, 0);
}

/* ---- Opening. ---- */

/* What a path opens: a kind, with a device's number in the upper half; 0: not ours. */
static uint64_t kind_of_path(const char *path)
{
  static const char device[] = "/dev/vfio/devices/vfio";
  unsigned number, task;
  int end = 0;

  if (!path)
    return 0;
  if (!strcmp(path, "/dev/iommu"))
    return KIND_IOMMU;
  if (!strcmp(path, "/dev/vfio/vfio"))
    return KIND_VFIO;
  if (!strncmp(path, device, sizeof(device) - 1) &&
      sscanf(path + sizeof(device) - 1, "%u%n", &number, &end) == 1 && !path[sizeof(device) - 1 + end])
    return KIND_VFIO_DEVICE | (uint64_t)number << 32;
  if (options.has_fail_nth && sscanf(path, "/proc/self/task/%u/fail-nth%n", &task, &end) == 1 && end && !path[end])
    return KIND_FAIL_NTH;
  return 0;
}

static int open_path(int folder, const char *path, int flags, mode_t mode)
{
  uint64_t kind = is_on() ? kind_of_path(path) : 0;
  sigset_t before;
  int fd;

  if (kind) {
    enter(&before);
    fd = open_connection(OPEN, kind, (uint32_t)kind, flags);
    leave(&before);
    return fd;
  }
  /* The files of the fault injection interface take whatever is written. */
  if (folder >= 0 && folder == debug_folder_fd && !strncmp(path, "fail", 4))
    path = "/dev/null";
  return syscall(SYS_openat, folder, path, flags, mode);
}

static mode_t mode_of(int flags, va_list *rest)
{
  return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(*rest, mode_t) : 0;
}

EXPORT int open(const char *path, int flags, ...)
{
  va_list rest;
  mode_t mode;

  va_start(rest, flags);
  mode = mode_of(flags, &rest);
  va_end(rest);
  return open_path(AT_FDCWD, path, flags, mode);
}

EXPORT int openat(int folder, const char *path, int flags, ...)
{
  va_list rest;
  mode_t mode;

  va_start(rest, flags);
  mode = mode_of(flags, &rest);
  va_end(rest);
  return open_path(folder, path, flags, mode);
}

EXPORT int open64(const char *path, int flags, ...) __attribute__((alias("open")));
EXPORT int openat64(int folder, const char *path, int flags, ...) __attribute__((alias("openat")));

EXPORT int __open_2(const char *path, int flags)
{
  return open_path(AT_FDCWD, path, flags, 0);
}

EXPORT int __openat_2(int folder, const char *path, int flags)
{
  return open_path(folder, path, flags, 0);
}

EXPORT int __open64_2(const char *path, int flags) __attribute__((alias("__open_2")));
EXPORT int __openat64_2(int folder, const char *path, int flags) __attribute__((alias("__openat_2")));

EXPORT DIR *opendir(const char *path)
{
  DIR *(*real)(const char *) = (DIR * (*)(const char *)) dlsym(RTLD_NEXT, "opendir");
  DIR *folder;

  if (!is_on() || !options.has_fail_nth || strncmp(path, "/sys/kernel/debug", 17))
    return real(path);
  /* Any folder will do that is there and has no file of such a name. */
  folder = real("/proc/self/task");
  debug_folder_fd = folder ? dirfd(folder) : -1;
  return folder;
}

/* ---- /proc/PID/status, with the memory that the server has pinned for the process. ---- */

static void copy_status(FILE *from, FILE *to, const int64_t kilobytes[2])
{
  char line[512];
  long value;

  while (fgets(line, sizeof(line), from)) {
    if (sscanf(line, "VmPin: %ld kB", &value) == 1)
      fprintf(to, "VmPin:\t%8ld kB\n", value + (long)kilobytes[0]);
    else if (sscanf(line, "VmLck: %ld kB", &value) == 1)
      fprintf(to, "VmLck:\t%8ld kB\n", value + (long)kilobytes[1]);
    else
      fputs(line, to);
  }
}

static FILE *open_status(FILE *real, uint32_t pid)
{
  struct {
    uint32_t pid, zero;
  } body = {pid, 0};
  int64_t kilobytes[2] = {0, 0};
  FILE *copy = tmpfile();
  sigset_t before;

  if (!copy)
    return real;
  enter(&before);
  ask(&(struct request){PROCSTATUS, &body, sizeof(body), .data = kilobytes, .data_room = sizeof(kilobytes)});
  leave(&before);
  copy_status(real, copy, kilobytes);
  fclose(real);
  rewind(copy);
  return copy;
}

EXPORT FILE *fopen(const char *path, const char *mode)
{
  FILE *(*real)(const char *, const char *) = (FILE * (*)(const char *, const char *)) dlsym(RTLD_NEXT, "fopen");
  FILE *file = real(path, mode);
  unsigned pid = getpid();
  int end = 0;

  if (!file || !is_on() || mode[0] != 'r')
    return file;
  if (!strcmp(path, "/proc/self/status") ||
      (sscanf(path, "/proc/%u/status%n", &pid, &end) == 1 && end && !path[end]))
    return open_status(file, pid);
  return file;
}

EXPORT FILE *fopen64(const char *path, const char *mode) __attribute__((alias("fopen")));

/* ---- Calls on descriptors. ---- */

EXPORT int close(int fd)
{
  sigset_t before;
  int result, error;

  if (fd == control.fd && fd >= 0 && control.pid == getpid()) {
    errno = EBADF;
    return -1;
  }
  if (fd == debug_folder_fd)
    debug_folder_fd = -1;
  if (!file_of(fd))
    return syscall(SYS_close, fd);
  enter(&before);
  forget_file(fd);
  result = syscall(SYS_close, fd);
  error = errno;
  /* What the last close does is done when close returns. */
  ask(&(struct request){BARRIER});
  errno = error;
  leave(&before);
  return result;
}

/* Runs `call` with the lock held, where `fd` is ours. */
#define ON_CAUGHT(fd, call)              \
  if (file_of(fd)) {                     \
    sigset_t before;                     \
    const struct caught *file;           \
    int64_t result = -1;                 \
                                         \
    enter(&before);                      \
    file = file_of(fd);                  \
    if (file)                            \
      result = call;                     \
    else                                 \
      errno = EBADF;                     \
    leave(&before);                      \
    return result;                       \
  }

EXPORT int ioctl(int fd, unsigned long command, ...)
{
  va_list rest;
  uint64_t argument;

  va_start(rest, command);
  argument = va_arg(rest, uint64_t);
  va_end(rest);
  ON_CAUGHT(fd, ask_ioctl(file, command, argument))
  return syscall(SYS_ioctl, fd, command, argument);
}

EXPORT ssize_t read(int fd, void *into, size_t count)
{
  ON_CAUGHT(fd, ask_read(file, into, count, -1))
  return syscall(SYS_read, fd, into, count);
}

EXPORT ssize_t write(int fd, const void *from, size_t count)
{
  ON_CAUGHT(fd, ask_write(file, from, count, -1))
  return syscall(SYS_write, fd, from, count);
}

EXPORT ssize_t pread(int fd, void *into, size_t count, off_t offset)
{
  if (offset >= 0)
    ON_CAUGHT(fd, ask_read(file, into, count, offset))
  return syscall(SYS_pread64, fd, into, count, offset);
}

EXPORT ssize_t pwrite(int fd, const void *from, size_t count, off_t offset)
{
  if (offset >= 0)
    ON_CAUGHT(fd, ask_write(file, from, count, offset))
  return syscall(SYS_pwrite64, fd, from, count, offset);
}

EXPORT ssize_t pread64(int fd, void *into, size_t count, off_t offset) __attribute__((alias("pread")));
EXPORT ssize_t pwrite64(int fd, const void *from, size_t count, off_t offset) __attribute__((alias("pwrite")));

/* What compilers make of the calls above when buffers are checked. */
EXPORT ssize_t __read_chk(int fd, void *into, size_t count, size_t room)
{
  if (count > room)
    abort();
  return read(fd, into, count);
}

EXPORT ssize_t __pread_chk(int fd, void *into, size_t count, off_t offset, size_t room)
{
  if (count > room)
    abort();
  return pread(fd, into, count, offset);
}

EXPORT ssize_t __pread64_chk(int fd, void *into, size_t count, off_t offset, size_t room)
  __attribute__((alias("__pread_chk")));

/* Asks the server for each of its files; how many have something. */
static int poll_caught(struct pollfd *asked, nfds_t count, struct pollfd *others)
{
  int ready = 0;
  sigset_t before;

  enter(&before);
  for (nfds_t i = 0; i < count; i++) {
    const struct caught *file = file_of(asked[i].fd);

    others[i] = asked[i];
    if (!file)
      continue;
    others[i].fd = -1;
    int64_t events = ask_poll(file, asked[i].events);
    asked[i].revents = events < 0 ? POLLERR : events;
    ready += asked[i].revents != 0;
  }
  leave(&before);
  return ready;
}

static int64_t milliseconds(void)
{
  struct timespec now;

  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

EXPORT int poll(struct pollfd *asked, nfds_t count, int timeout)
{
  int64_t end = milliseconds() + timeout;
  struct pollfd *others;
  bool has_ours = false;
  int ready, real, wait = 0;

  for (nfds_t i = 0; i < count && !has_ours; i++)
    has_ours = file_of(asked[i].fd) != NULL;
  if (!has_ours)
    return syscall(SYS_poll, asked, count, timeout);
  others = calloc(count, sizeof(*others));
  if (!others)
    return -1;
  /* Nothing wakes us: the server is asked again, at most ten milliseconds later. */
  for (;; wait = wait < 10 ? wait + 1 : 10) {
    ready = poll_caught(asked, count, others);
    if (timeout >= 0 && milliseconds() + wait > end)
      wait = end > milliseconds() ? (int)(end - milliseconds()) : 0;
    real = syscall(SYS_poll, others, count, ready ? 0 : wait);
    for (nfds_t i = 0; i < count; i++)
      if (others[i].fd >= 0)
        asked[i].revents = others[i].revents;
    if (real < 0 || ready + real > 0 || (timeout >= 0 && milliseconds() >= end))
      break;
  }
  free(others);
  return real < 0 ? -1 : ready + real;
}

EXPORT int __poll_chk(struct pollfd *asked, nfds_t count, int timeout, size_t room)
{
  if (room / sizeof(*asked) < count)
    abort();
  return poll(asked, count, timeout);
}

EXPORT void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
  void *result;
  sigset_t before;

  if (!(flags & MAP_ANONYMOUS) && file_of(fd)) {
    enter(&before);
    result = map_region(file_of(fd), address, length, protection, flags, offset);
    leave(&before);
    return result;
  }
  result = (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
  if (result == MAP_FAILED && flags & MAP_HUGETLB && flags & MAP_ANONYMOUS && is_on() && options.gives_plain_for_huge)
    return map_plain_for_huge(address, length, protection, flags);
  return result;
}

EXPORT void *mmap64(void *address, size_t length, int protection, int flags, int fd, off_t offset)
  __attribute__((alias("mmap")));

EXPORT int munmap(void *address, size_t length)
{
  int result = syscall(SYS_munmap, address, length);
  sigset_t before;

  if (result == 0 && region_count) {
    enter(&before);
    unmap_regions(address, length);
    leave(&before);
  }
  return result;
}

/* Preloaded into a process and its children: counts the calls that change files below a folder, and
 * ends the process at the n-th, or has it and all later ones fail.
 *
 * FAULT_FOLDER   the folder, as a real path
 * FAULT_COUNTER  a file of 8 bytes that holds the count of all processes
 * FAULT_AT       n; 0: only count
 * FAULT_ERRNO    0: SIGKILL; else the error that the calls return, those excepted that free space
 *
 * A write during which the process ends has written half of its bytes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int64_t* counter;
static int64_t at;
static int error;
static const char* folder;

__attribute__((constructor)) static void begin(void) {
  const char* path = getenv("FAULT_COUNTER");
  folder = getenv("FAULT_FOLDER");
  if (!path || !folder) return;
  int file = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
  if (file < 0) return;
  void* memory = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) return;
  at = atoll(getenv("FAULT_AT"));
  error = atoi(getenv("FAULT_ERRNO"));
  counter = memory;
}

static void end(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

static int below(const char* path) {
  size_t length = strlen(folder);
  return strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static int file_below(int file) {
  char link[64], path[PATH_MAX];
  if (!counter || file < 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = '\0';
  return below(path);
}

static int name_below(int from, const char* name) {
  char link[64], path[2 * PATH_MAX];
  if (!counter || !name) return 0;
  if (name[0] == '/') return below(name);
  if (from == AT_FDCWD) {
    if (!getcwd(path, PATH_MAX)) return 0;
  } else {
    snprintf(link, sizeof link, "/proc/self/fd/%d", from);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = '\0';
  }
  strncat(path, "/", 2);
  strncat(path, name, PATH_MAX - 1);
  return below(path);
}

enum { PASS, FAIL, END };

static int counted(int matters) {
  if (!matters) return PASS;
  int64_t count = __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
  if (!at || count < at) return PASS;
  if (error) return FAIL;
  return count == at ? END : PASS;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Ends the process or returns the error from the calling function. */
#define CALL(matters)         \
  switch (counted(matters)) { \
    case END:                 \
      end();                  \
      break;                  \
    case FAIL:                \
      errno = error;          \
      return -1;              \
  }
/* The same for what takes no space, which does not fail. */
#define FREEING(matters) \
  if (counted(matters) == END) end();

ssize_t write(int file, const void* bytes, size_t size) {
  __typeof__(&write) real = REAL(write);
  switch (counted(file_below(file))) {
    case END:
      real(file, bytes, size / 2);
      end();
      break;
    case FAIL:
      errno = error;
      return -1;
  }
  return real(file, bytes, size);
}

#define PWRITE(name, offset_t)                                             \
  ssize_t name(int file, const void* bytes, size_t size, offset_t place) { \
    __typeof__(&name) real = REAL(name);                                   \
    switch (counted(file_below(file))) {                                   \
      case END:                                                            \
        real(file, bytes, size / 2, place);                                \
        end();                                                             \
        break;                                                             \
      case FAIL:                                                           \
        errno = error;                                                     \
        return -1;                                                         \
    }                                                                      \
    return real(file, bytes, size, place);                                 \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t writev(int file, const struct iovec* parts, int count) {
  CALL(file_below(file))
  return REAL(writev)(file, parts, count);
}

ssize_t sendfile(int to, int from, off_t* offset, size_t size) {
  CALL(file_below(to))
  return REAL(sendfile)(to, from, offset, size);
}

static int changes(int flags) { return (flags & (O_CREAT | O_TRUNC)) != 0 || (flags & O_TMPFILE) == O_TMPFILE; }

#define OPEN(name)                                     \
  int name(const char* path, int flags, ...) {         \
    va_list more;                                      \
    va_start(more, flags);                             \
    mode_t mode = va_arg(more, mode_t);                \
    va_end(more);                                      \
    CALL(changes(flags) && name_below(AT_FDCWD, path)) \
    return REAL(name)(path, flags, mode);              \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                     \
  int name(int from, const char* path, int flags, ...) { \
    va_list more;                                        \
    va_start(more, flags);                               \
    mode_t mode = va_arg(more, mode_t);                  \
    va_end(more);                                        \
    CALL(changes(flags) && name_below(from, path))       \
    return REAL(name)(from, path, flags, mode);          \
  }
OPENAT(openat)
OPENAT(openat64)

int rename(const char* old, const char* new) {
  FREEING(name_below(AT_FDCWD, new))
  return REAL(rename)(old, new);
}

int renameat(int from, const char* old, int to, const char* new) {
  FREEING(name_below(to, new))
  return REAL(renameat)(from, old, to, new);
}

int link(const char* old, const char* new) {
  CALL(name_below(AT_FDCWD, new))
  return REAL(link)(old, new);
}

int linkat(int from, const char* old, int to, const char* new, int flags) {
  CALL(name_below(to, new))
  return REAL(linkat)(from, old, to, new, flags);
}

int symlink(const char* old, const char* new) {
  CALL(name_below(AT_FDCWD, new))
  return REAL(symlink)(old, new);
}

int fsync(int file) {
  CALL(file_below(file))
  return REAL(fsync)(file);
}

int fdatasync(int file) {
  CALL(file_below(file))
  return REAL(fdatasync)(file);
}

int ftruncate(int file, off_t size) {
  CALL(file_below(file))
  return REAL(ftruncate)(file, size);
}

int ftruncate64(int file, off64_t size) {
  CALL(file_below(file))
  return REAL(ftruncate64)(file, size);
}

int posix_fallocate(int file, off_t begins, off_t size) {
  switch (counted(file_below(file))) {
    case END:
      end();
      break;
    case FAIL:
      return error;
  }
  return REAL(posix_fallocate)(file, begins, size);
}

int fchmod(int file, mode_t mode) {
  FREEING(file_below(file))
  return REAL(fchmod)(file, mode);
}

int chmod(const char* path, mode_t mode) {
  FREEING(name_below(AT_FDCWD, path))
  return REAL(chmod)(path, mode);
}

int mkdir(const char* path, mode_t mode) {
  CALL(name_below(AT_FDCWD, path))
  return REAL(mkdir)(path, mode);
}

int rmdir(const char* path) {
  FREEING(name_below(AT_FDCWD, path))
  return REAL(rmdir)(path);
}

int unlink(const char* path) {
  FREEING(name_below(AT_FDCWD, path))
  return REAL(unlink)(path);
}

int unlinkat(int from, const char* path, int flags) {
  FREEING(name_below(from, path))
  return REAL(unlinkat)(from, path, flags);
}

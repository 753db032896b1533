#include "runtime/fatbinary.hpp"

#include <dlfcn.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>

namespace emu {
namespace {

// The layout of files made by nvcc 13.0. NVIDIA does not document it.
struct Container {
  std::uint32_t magic;  // 0xba55ed50
  std::uint16_t version, header_bytes;
  std::uint64_t bytes;  // after the header
};
struct Entry {
  std::uint16_t kind, version;  // kind 1: PTX, 2: machine code
  std::uint32_t header_bytes;
  std::uint64_t bytes;
  std::uint32_t compressed_bytes, options_offset;
  std::uint32_t ptx_version;
  std::uint32_t arch;
  std::uint32_t name_offset, name_bytes;
  std::uint64_t flags;  // 0x2000: LZ4, 0x8000: zstd
  std::uint64_t zero;
  std::uint64_t plain_bytes;
};
constexpr std::uint32_t kMagic = 0xba55ed50;

/// An LZ4 block (format: lz4_Block_format.md of the LZ4 project).
std::string unpack_lz4(const std::uint8_t* p, std::size_t bytes, std::size_t plain) {
  std::string out;
  out.reserve(plain);
  const std::uint8_t* const end = p + bytes;
  const auto length = [&](std::size_t n) {
    if (n == 15)
      for (std::uint8_t more = 255; more == 255 && p < end; n += more) more = *p++;
    return n;
  };
  while (p < end) {
    const std::uint8_t token = *p++;
    const std::size_t literals = length(token >> 4);
    if (literals > static_cast<std::size_t>(end - p)) break;
    out.append(reinterpret_cast<const char*>(p), literals);
    p += literals;
    if (p + 2 > end) break;
    const std::size_t offset = p[0] | p[1] << 8;
    p += 2;
    const std::size_t match = length(token & 15) + 4;
    if (offset == 0 || offset > out.size()) break;
    for (std::size_t i = 0; i < match; ++i) out.push_back(out[out.size() - offset]);
  }
  return out;
}

std::string unpack_zstd(const std::uint8_t* p, std::size_t bytes, std::size_t plain) {
  static void* library = dlopen("libzstd.so.1", RTLD_NOW);
  using Decompress = std::size_t (*)(void*, std::size_t, const void*, std::size_t);
  const auto decompress = library ? reinterpret_cast<Decompress>(dlsym(library, "ZSTD_decompress")) : nullptr;
  if (!decompress)
    throw std::runtime_error("the PTX is compressed with zstd, but libzstd.so.1 was not found; compile with nvcc --no-compress");
  std::string out(plain, '\0');
  const std::size_t n = decompress(out.data(), plain, p, bytes);
  if (n != plain) throw std::runtime_error("the PTX cannot be decompressed; compile with nvcc --no-compress");
  return out;
}

}  // namespace

std::vector<PtxImage> ptx_images(const void* data) {
  std::vector<PtxImage> found;
  const auto* p = static_cast<const std::uint8_t*>(data);
  Container c;
  std::memcpy(&c, p, sizeof c);
  if (c.magic != kMagic) throw std::runtime_error("not a fat binary");
  const std::uint8_t* at = p + c.header_bytes;
  const std::uint8_t* const end = at + c.bytes;
  while (at + sizeof(Entry) <= end) {
    Entry e;
    std::memcpy(&e, at, sizeof e);
    if (e.header_bytes == 0) break;
    if (e.kind == 1) {
      const std::uint8_t* text = at + e.header_bytes;
      if (e.compressed_bytes == 0) {
        found.push_back({static_cast<int>(e.arch), std::string(reinterpret_cast<const char*>(text), e.bytes)});
      } else {
        const bool zstd = e.flags & 0x8000;
        found.push_back({static_cast<int>(e.arch), zstd ? unpack_zstd(text, e.compressed_bytes, e.plain_bytes)
                                                        : unpack_lz4(text, e.compressed_bytes, e.plain_bytes)});
      }
    }
    at += e.header_bytes + e.bytes;
  }
  return found;
}

}  // namespace emu

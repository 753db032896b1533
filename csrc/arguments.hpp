// The arguments of a kernel, as Python gives them: arrays, by their array interfaces, and numbers. Included by bindings.cpp alone.
#pragma once

#include <pybind11/pybind11.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels.hpp"

namespace pyalexnet {

namespace py = pybind11;

#if defined(PYALEXNET_CUDA)
constexpr const char* kInterface = "__cuda_array_interface__";
constexpr const char* kKindOfArray = "a CUDA array";
constexpr long kOldestInterface = 2, kNewestInterface = 3;
#else
constexpr const char* kInterface = "__array_interface__";
constexpr const char* kKindOfArray = "a NumPy array";
constexpr long kOldestInterface = 3, kNewestInterface = 3;
#endif

template <class T>
constexpr const char* kTypeString = nullptr;
template <>
constexpr const char* kTypeString<float> = "<f4";
template <>
constexpr const char* kTypeString<double> = "<f8";
template <>
constexpr const char* kTypeString<std::int32_t> = "<i4";
template <>
constexpr const char* kTypeString<std::int64_t> = "<i8";
template <>
constexpr const char* kTypeString<std::uint16_t> = "<u2";
template <>
constexpr const char* kTypeString<std::uint8_t> = "|u1";

/// Alignment that an array of T needs: on a GPU, kernels load four floats, or four uint16, at once; the host needs no more than T's.
template <class T>
constexpr std::uintptr_t alignment() {
#if defined(PYALEXNET_CUDA)
  if (std::is_same_v<T, float> || std::is_same_v<T, std::uint16_t>) return 4 * sizeof(T);
#endif
  return alignof(T);
}

using Shape = std::vector<std::int64_t>;

inline std::string text(const Shape& shape) {
  std::string s = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) s += (i ? ", " : "") + std::to_string(shape[i]);
  return s + (shape.size() == 1 ? ",)" : ")");
}

[[noreturn]] inline void fail(const std::string& message) { throw py::value_error(message); }
[[noreturn]] inline void fail_type(const std::string& message) { throw py::type_error(message); }

/// `value` as the float32 that kernels take. Throws ValueError for what float32 does not hold: infinities, NaN, and numbers too large or,
/// but for 0, too small for it.
inline float float_of(const char* name, double value) {
  constexpr double kLargest = 3.4028234663852886e38;  // what a float holds; a conversion of more is undefined
  if (std::fabs(value) <= kLargest) {
    const auto result = static_cast<float>(value);
    if (result != 0.0f || value == 0.0) return result;
  }
  char number[40];
  std::snprintf(number, sizeof number, "%.9g", value);
  fail(std::string(name) + " is " + number + "; expected a number that float32 holds");
}

/// Checks the last axis, images: a multiple of images_multiple().
inline void check_images(const char* name, const Shape& shape) {
  if (shape.empty() || shape.back() < 1 || shape.back() > kMaxIndex || shape.back() % images_multiple() != 0)
    fail(std::string(name) + " has shape " + text(shape) + "; expected a last dimension, images, that is a multiple of " +
         std::to_string(images_multiple()) + " and below 2^31");
}

/// Memory that a call reads or writes.
struct Span {
  const char* name;
  std::uintptr_t begin, end;
  bool written;
};

/// What an array interface says. Throws TypeError or ValueError, naming the argument, for anything but a C-contiguous array of the type.
struct Interface {
  Interface(const char* argument, const py::object& object, const char* type, std::int64_t item_size, std::uintptr_t aligned, bool writable)
      : name(argument) {
    const py::dict fields = dictionary(object);
    check_version(fields);
    check_type(field(fields, "typestr"), type);
    shape = integers(field(fields, "shape"), "shape");
    bytes = item_size * count();  // no overflow: see count()
    if (bytes / item_size != count()) fail_size();
    read_address(field(fields, "data"), aligned, writable);
    const py::object strides = field(fields, "strides");
    if (!strides.is_none()) check_strides(integers(strides, "strides"), item_size);
    if (!field(fields, "mask").is_none()) fail(std::string(name) + " has a mask; expected an array without");
  }

  const char* name;
  Shape shape;
  std::int64_t bytes = 0;
  std::uintptr_t address = 0;

 private:
  py::dict dictionary(const py::object& object) const {
    const std::string kind = Py_TYPE(object.ptr())->tp_name;
    if (!py::hasattr(object, kInterface)) fail(std::string(name) + " is " + kind + "; expected " + kKindOfArray);
    const py::object found = object.attr(kInterface);
    if (!PyDict_Check(found.ptr())) fail_type(std::string(name) + " is " + kind + ", whose " + kInterface + " is no dict; expected one");
    return py::reinterpret_borrow<py::dict>(found);
  }

  /// A field of the interface; None if it is missing.
  py::object field(const py::dict& fields, const char* key) const {
    PyObject* found = PyDict_GetItemWithError(fields.ptr(), py::str(key).ptr());
    if (found == nullptr && PyErr_Occurred()) throw py::error_already_set();
    return found == nullptr ? py::object(py::none()) : py::reinterpret_borrow<py::object>(found);
  }

  [[noreturn]] void fail_field(const char* what, const char* expected) const {
    fail_type(std::string(name) + ": " + what + " of its " + kInterface + " is wrong; expected " + expected);
  }
  [[noreturn]] void fail_size() const { fail(std::string(name) + " has shape " + text(shape) + "; expected fewer than 2^63 bytes"); }

  void check_version(const py::dict& fields) const {
    const py::object version = field(fields, "version");
    if (!PyLong_Check(version.ptr())) fail_field("version", "a number");
    int overflow = 0;
    const long number = PyLong_AsLongAndOverflow(version.ptr(), &overflow);
    if (overflow != 0 || number < kOldestInterface || number > kNewestInterface)
      fail(std::string(name) + " has version " + (overflow != 0 ? "out of range" : std::to_string(number)) + " of " + kInterface +
           "; expected version " + std::to_string(kNewestInterface));
  }

  void check_type(const py::object& given, const char* expected) const {
    if (!PyUnicode_Check(given.ptr())) fail_field("typestr", "a string");
    const char* type = PyUnicode_AsUTF8(given.ptr());
    if (type == nullptr) throw py::error_already_set();  // UnicodeEncodeError, a ValueError
    if (std::string(type) != expected) fail(std::string(name) + " has dtype '" + type + "'; expected '" + expected + "'");
  }

  Shape integers(const py::object& given, const char* what) const {
    if (!PyTuple_Check(given.ptr())) fail_field(what, "a tuple of integers");
    constexpr py::ssize_t kMostAxes = 64;  // NumPy's
    if (PyTuple_GET_SIZE(given.ptr()) > kMostAxes) fail(std::string(name) + " has more than 64 dimensions; expected fewer");
    Shape values;
    for (const auto& item : py::reinterpret_borrow<py::tuple>(given)) {
      if (!PyLong_Check(item.ptr())) fail_field(what, "a tuple of integers");
      int overflow = 0;
      values.push_back(PyLong_AsLongLongAndOverflow(item.ptr(), &overflow));
      if (overflow != 0) fail(std::string(name) + ": a number in " + what + " has more than 64 bits; expected less");
    }
    return values;
  }

  /// Number of elements. Throws unless extents are at least 0 and the product of all but zeros, and so of any of them, has 63 bits.
  std::int64_t count() const {
    std::int64_t product = 1;
    bool empty = false;
    for (const std::int64_t extent : shape) {
      if (extent < 0) fail(std::string(name) + " has shape " + text(shape) + "; expected extents from 0");
      empty = empty || extent == 0;
      if (extent > 1 && product > kLargestBytes / extent) fail_size();
      if (extent > 1) product *= extent;
    }
    if (product > kLargestBytes / kWidestItem) fail_size();
    return empty ? 0 : product;
  }

  void read_address(const py::object& data, std::uintptr_t aligned, bool writable) {
    const char* expected = "a tuple of an address and whether it is read-only";
    if (!PyTuple_Check(data.ptr()) || PyTuple_GET_SIZE(data.ptr()) != 2) fail_field("data", expected);
    PyObject *number = PyTuple_GET_ITEM(data.ptr(), 0), *read_only = PyTuple_GET_ITEM(data.ptr(), 1);
    if (!PyLong_Check(number) || !PyLong_Check(read_only)) fail_field("data", expected);  // a bool is a long
    address = PyLong_AsSize_t(number);
    if (PyErr_Occurred()) {
      PyErr_Clear();
      fail(std::string(name) + " is at a negative address or one of more than 64 bits; expected an address");
    }
    if (writable && PyObject_IsTrue(read_only) != 0) fail(std::string(name) + " is read-only; expected a writable array");
    // The upper half of all addresses is the system's.
    if (bytes > 0 && (address == 0 || address > static_cast<std::uintptr_t>(kLargestBytes - bytes)))
      fail(std::string(name) + " is at address " + std::to_string(address) + "; expected that of " + std::to_string(bytes) + " bytes");
    if (address % aligned != 0)
      fail(std::string(name) + " is at address " + std::to_string(address) + "; expected a multiple of " + std::to_string(aligned));
  }

  void check_strides(const Shape& strides, std::int64_t item_size) const {
    if (strides.size() != shape.size())
      fail(std::string(name) + " has strides " + text(strides) + "; expected one for each dimension of shape " + text(shape));
    if (bytes == 0) return;
    std::int64_t expected = item_size;
    for (std::size_t axis = shape.size(); axis-- > 0;) {
      if (shape[axis] > 1 && strides[axis] != expected)
        fail(std::string(name) + " has strides " + text(strides) + "; expected a C-contiguous array");
      expected *= shape[axis];
    }
  }

  static constexpr std::int64_t kLargestBytes = 0x7fffffffffffffff, kWidestItem = 8;
};

/// A C-contiguous array of T, given as an argument.
template <class T>
class Array {
 public:
  Array(const char* name, const py::object& object)
      : interface_(name, object, kTypeString<Plain>, sizeof(T), alignment<Plain>(), !std::is_const_v<T>) {}

  operator T*() const { return data(); }
  T* data() const { return reinterpret_cast<T*>(interface_.address); }
  const char* name() const { return interface_.name; }
  const Shape& shape() const { return interface_.shape; }
  std::int64_t size() const { return interface_.bytes / static_cast<std::int64_t>(sizeof(T)); }
  Span span() const {
    return {name(), interface_.address, interface_.address + static_cast<std::uintptr_t>(interface_.bytes), !std::is_const_v<T>};
  }
  /// Extent of one axis, as an int.
  int extent(std::size_t axis) const {
    if (shape().at(axis) > kMaxIndex)
      fail(std::string(name()) + " has shape " + text(shape()) + "; expected extents up to " + std::to_string(kMaxIndex));
    return static_cast<int>(shape()[axis]);
  }
  const Array& of_rank(std::size_t rank) const {
    if (shape().size() != rank)
      fail(std::string(name()) + " has shape " + text(shape()) + "; expected " + std::to_string(rank) +
           (rank == 1 ? " dimension" : " dimensions"));
    return *this;
  }
  const Array& of_shape(const Shape& expected) const {
    if (shape() != expected) fail(std::string(name()) + " has shape " + text(shape()) + "; expected " + text(expected));
    return *this;
  }
  const Array& of_images() const {
    check_images(name(), shape());
    return *this;
  }

 private:
  using Plain = std::remove_const_t<T>;
  Interface interface_;
};

/// A result that may be written in place: it may be the very same array as the input.
struct InPlace {
  const char *kernel, *result, *input;
};
constexpr InPlace kInPlace[] = {
    {"activation_forward", "y", "x"}, {"activation_backward", "dx", "dy"}, {"dropout", "y", "x"}, {"add", "y", "a"}, {"add", "y", "b"},
};

/// The arrays of one call of a kernel. Kernels run only by way of a Call (Kernels::run), which refuses memory that is written and also
/// belongs to another array, except as kInPlace says.
class Call {
 public:
  explicit Call(const char* kernel) : kernel_(kernel) {}

  template <class T>
  Array<T> array(const char* name, const py::object& object) {
    const Array<T> array(name, object);
    spans_.push_back(array.span());
    return array;
  }

  /// An array, or nothing for None.
  template <class T>
  std::optional<Array<T>> optional(const char* name, const py::object& object) {
    if (object.is_none()) return std::nullopt;
    return array<T>(name, object);
  }

  /// Throws ValueError for arrays that may not overlap and do.
  void check_overlaps() const {
    for (const Span& a : spans_)
      for (const Span& b : spans_)
        if (&a != &b && a.written && a.begin < b.end && b.begin < a.end && !in_place(a, b))
          fail(std::string(a.name) + " overlaps " + b.name + " in memory; expected arrays apart" + exception(a.name));
  }

 private:
  bool allowed(const char* result, const char* input) const {
    for (const InPlace& entry : kInPlace)
      if (entry.kernel == std::string(kernel_) && entry.result == std::string(result) && entry.input == std::string(input)) return true;
    return false;
  }
  bool in_place(const Span& a, const Span& b) const {
    return !b.written && a.begin == b.begin && a.end == b.end && allowed(a.name, b.name);
  }
  /// For a message: which inputs the result may be.
  std::string exception(const char* result) const {
    std::string inputs;
    for (const InPlace& entry : kInPlace)
      if (entry.kernel == std::string(kernel_) && entry.result == std::string(result))
        inputs += (inputs.empty() ? "" : " or ") + std::string(entry.input);
    return inputs.empty() ? "" : ", or " + std::string(result) + " to be " + inputs;
  }

  const char* kernel_;
  std::vector<Span> spans_;
};

}  // namespace pyalexnet

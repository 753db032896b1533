// The kernels as Python calls them: checks the arguments and calls the launchers.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <exception>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "arguments.hpp"
#include "conv/shape.cuh"
#include "kernels.hpp"
#if !defined(PYALEXNET_CUDA)
#include "simt/simt.cuh"
#include "simt/thread_pool.hpp"
#endif
#if defined(PYALEXNET_TEST_BUILD)
#include "simt/selftest.hpp"
#endif

namespace py = pybind11;
using namespace py::literals;

namespace pyalexnet {
namespace {

/// Calls f with the GIL released.
///
/// If the interpreter ends meanwhile, the GIL cannot be taken again: until Python 3.14, Python then ends the thread by an exception of the
/// C library's own, which would destroy this thread's Python objects without the GIL. The thread stops here instead, as 3.14 has it do.
template <class F>
void without_gil(F f) {
  PyThreadState* const state = PyEval_SaveThread();
  std::exception_ptr error;
  try {
    f();
  } catch (...) {
    error = std::current_exception();
  }
  try {
    PyEval_RestoreThread(state);
  } catch (...) {
    while (true) pause();
  }
  if (error) std::rethrow_exception(error);
}

/// The kernels as Python sees them: methods of a stream of a device. The host has one of each.
class Kernels {
 public:
#if defined(PYALEXNET_CUDA)
  Kernels(int device, std::uintptr_t stream) : device_(device), stream_(reinterpret_cast<StreamHandle>(stream)) {}
#endif

  /// Checks the arrays of a call, then calls f(stream) with the device current and the GIL released.
  template <class F>
  void run(const Call& call, F f) const {
    call.check_overlaps();
    without_gil([&] {
#if defined(PYALEXNET_CUDA)
      const CurrentDevice current(device_);
#endif
      f(stream_);
    });
  }

 private:
  [[maybe_unused]] int device_ = 0;
  StreamHandle stream_ = nullptr;
};

using KernelsClass = py::class_<Kernels>;

Activation activation_of(const std::string& kind) {
  if (kind.empty()) return Activation::kNone;
  if (kind == "relu") return Activation::kRelu;
  if (kind == "tanh") return Activation::kTanh;
  fail("activation is '" + kind + "'; expected '', 'relu' or 'tanh'");
}

/// As activation_of, but refuses ''.
Activation required_activation_of(const std::string& kind) {
  if (kind.empty()) fail("kind is ''; expected 'relu' or 'tanh'");
  return activation_of(kind);
}

// --- convolution ---

ConvAlgorithm algorithm_of(const std::string& name) {
  if (name.empty()) return ConvAlgorithm::kAuto;
  if (name == "direct") return ConvAlgorithm::kDirect;
  if (name == "winograd") return ConvAlgorithm::kWinograd;
  fail("algorithm is '" + name + "'; expected '', 'direct' or 'winograd'");
}

/// An array's floats, null without one. Throws if they are fewer than needed.
float* enough(const char* name, const std::optional<Array<float>>& array, std::size_t needed) {
  const std::int64_t size = array ? array->size() : 0;
  if (static_cast<std::int64_t>(needed) > size)
    fail(std::string(name) + " has " + std::to_string(size) + " floats; expected at least " + std::to_string(needed));
  return array ? array->data() : nullptr;
}

/// Shape of a convolution of x by w to y. Checks it by the rules of conv/shape.cuh and those of the arrays.
ConvShape conv_shape(const Shape& x, const Shape& w, const Shape& y, int stride, int pad, int groups) {
  for (const auto* shape : {&x, &w, &y}) {
    if (shape->size() != 4)
      fail("conv: x, w and y have shapes " + text(x) + ", " + text(w) + " and " + text(y) + "; expected 4 dimensions each");
    for (auto extent : *shape)
      if (extent < 1 || extent > kMaxIndex)
        fail("conv: a shape is " + text(*shape) + "; expected extents from 1 to " + std::to_string(kMaxIndex));
  }
  const auto i = [](std::int64_t v) { return static_cast<int>(v); };
  const ConvShape shape{i(x[3]), i(x[0]), i(x[1]), i(x[2]), i(w[3]), i(w[1]), i(w[2]), i(y[1]), i(y[2]), groups, stride, pad};
  check_conv_shape(shape);
  if (w[0] != x[0] / groups)
    fail("w has shape " + text(w) + "; expected a first dimension of " + std::to_string(x[0] / groups) + ", a group's channels");
  if (y[0] != w[3] || y[3] != x[3])
    fail("y has shape " + text(y) + "; expected " + std::to_string(w[3]) + " channels (w's filters) and " + std::to_string(x[3]) +
         " images (x's)");
  return shape;
}

void bind_conv(KernelsClass& kernels) {
  kernels.def(
      "conv_forward",
      [](const Kernels& at, const py::object& y_, const py::object& x_, const py::object& w_, const py::object& b_, int stride, int pad,
         int groups, const std::string& activation, const std::string& algorithm, const py::object& filters_, bool transformed,
         const std::optional<int>& images, const py::object& workspace_) {
        Call call("conv_forward");
        const auto y = call.array<float>("y", y_);
        const auto x = call.array<const float>("x", x_);
        const auto w = call.array<const float>("w", w_);
        const auto b = call.optional<const float>("b", b_);
        const auto filters = call.optional<float>("filters", filters_);
        const auto workspace = call.optional<float>("workspace", workspace_);
        const ConvShape shape = conv_shape(x.of_images().shape(), w.shape(), y.shape(), stride, pad, groups);
        if (b) b->of_shape({shape.K});
        const Activation kind = activation_of(activation);
        const ConvAlgorithm wanted = algorithm_of(algorithm);
        at.run(call, [&](StreamHandle stream) {
          const int wanted_images = images.value_or(shape.N);
          const std::size_t transform = conv_filter_floats(shape, wanted, wanted_images);
          const bool given = transform > 0 && filters;
          float* floats = given ? enough("filters", filters, transform)
                                : enough("workspace", workspace, conv_forward_workspace(shape, wanted, wanted_images));
          conv_forward<float>(y, x, w, b ? b->data() : nullptr, floats, given && transformed, shape, kind, wanted, wanted_images, stream);
        });
      },
      "Computes y = activation(conv(x, w) + b); b, filters and workspace may be None.", "y"_a, "x"_a, "w"_a, "b"_a, py::kw_only(),
      "stride"_a, "pad"_a, "groups"_a, "activation"_a, "algorithm"_a, "filters"_a, "transformed"_a, "images"_a = py::none(), "workspace"_a);
  kernels.def(
      "conv_backward_data",
      [](const Kernels& at, const py::object& dx_, const py::object& dy_, const py::object& w_, const py::object& mask_, int stride,
         int pad, int groups, const std::string& algorithm, const py::object& workspace_) {
        Call call("conv_backward_data");
        const auto dx = call.array<float>("dx", dx_);
        const auto dy = call.array<const float>("dy", dy_);
        const auto w = call.array<const float>("w", w_);
        const auto mask = call.optional<const float>("mask", mask_);
        const auto workspace = call.optional<float>("workspace", workspace_);
        const ConvShape shape = conv_shape(dx.of_images().shape(), w.shape(), dy.shape(), stride, pad, groups);
        if (mask) mask->of_shape(dx.shape());
        const ConvAlgorithm wanted = algorithm_of(algorithm);
        at.run(call, [&](StreamHandle stream) {
          float* floats = enough("workspace", workspace, conv_backward_data_workspace(shape, wanted));
          conv_backward_data<float>(dx, dy, w, mask ? mask->data() : nullptr, floats, shape, wanted, stream);
        });
      },
      "Computes dx, 0 unless mask > 0; mask may be None, workspace if none is needed.", "dx"_a, "dy"_a, "w"_a, py::kw_only(),
      "mask"_a = py::none(), "stride"_a, "pad"_a, "groups"_a, "algorithm"_a, "workspace"_a);
  kernels.def(
      "conv_backward_weights",
      [](const Kernels& at, const py::object& dw_, const py::object& x_, const py::object& dy_, int stride, int pad, int groups,
         const std::string& algorithm, const py::object& workspace_) {
        Call call("conv_backward_weights");
        const auto dw = call.array<float>("dw", dw_);
        const auto x = call.array<const float>("x", x_);
        const auto dy = call.array<const float>("dy", dy_);
        const auto workspace = call.optional<float>("workspace", workspace_);
        const ConvShape shape = conv_shape(x.of_images().shape(), dw.shape(), dy.shape(), stride, pad, groups);
        const ConvAlgorithm wanted = algorithm_of(algorithm);
        at.run(call, [&](StreamHandle stream) {
          float* floats = enough("workspace", workspace, conv_backward_weights_workspace(shape, wanted));
          conv_backward_weights<float>(dw, x, dy, floats, shape, wanted, stream);
        });
      },
      "Computes dw, the gradient of the filters; workspace may be None if none is needed.", "dw"_a, "x"_a, "dy"_a, py::kw_only(),
      "stride"_a, "pad"_a, "groups"_a, "algorithm"_a, "workspace"_a);
  kernels.def(
      "conv_plan",
      [](const Kernels& at, const Shape& x, const Shape& w, const Shape& y, int stride, int pad, int groups, const std::string& algorithm) {
        Call call("conv_plan");
        check_images("x", x);
        const ConvShape shape = conv_shape(x, w, y, stride, pad, groups);
        const ConvAlgorithm wanted = algorithm_of(algorithm);
        ConvAlgorithm chosen{};
        std::array<std::size_t, 3> floats{};
        std::size_t filters = 0;
        at.run(call, [&](StreamHandle) {
          chosen = conv_algorithm(shape, wanted);
          filters = conv_filter_floats(shape, wanted, shape.N);
          floats = {std::max(conv_forward_workspace(shape, wanted, 1), conv_forward_workspace(shape, wanted, shape.N)),
                    conv_backward_data_workspace(shape, wanted), conv_backward_weights_workspace(shape, wanted)};
        });
        return std::make_tuple(chosen == ConvAlgorithm::kWinograd ? "winograd" : "direct", filters, floats);
      },
      "Returns the algorithm, floats of its filters, floats of workspace by pass.", "x"_a, "w"_a, "y"_a, py::kw_only(), "stride"_a, "pad"_a,
      "groups"_a, "algorithm"_a);
}

// --- the other operations ---

/// Number of features of `a`: the product of all axes but the last, which is images. Throws if `a` is empty.
template <class T>
std::int64_t features_of(const Array<T>& a) {
  if (a.of_images().size() == 0) fail(std::string(a.name()) + " has shape " + text(a.shape()) + "; expected a non-empty array");
  return a.size() / a.shape().back();
}

LrnShape lrn_shape(const Array<const float>& x, int size, double k, double alpha, double beta, int groups) {
  features_of(x.of_rank(4));
  const int C = x.extent(0);
  return {x.size() / C, C, groups, size, float_of("k", k), float_of("alpha", alpha), float_of("beta", beta)};
}

/// Sizes for x (C, H, W, N) and y (C, P, Q, N).
template <class X, class Y>
PoolShape pool_shape(const Array<X>& x, const Array<Y>& y, int size, int stride, int pad) {
  x.of_rank(4).of_images();
  y.of_rank(4).of_shape({x.shape()[0], y.shape()[1], y.shape()[2], x.shape()[3]});
  if (x.size() == 0) fail(std::string(x.name()) + " has shape " + text(x.shape()) + "; expected a non-empty array");
  return {x.extent(3), x.extent(0), x.extent(1), x.extent(2), y.extent(1), y.extent(2), size, stride, pad};
}

/// Host only: device memory cannot be read here.
void check_starts([[maybe_unused]] const Array<const std::int64_t>& starts, [[maybe_unused]] std::int64_t count) {
#if !defined(PYALEXNET_CUDA)
  const std::int64_t* begin = starts.data();
  const std::int64_t* last = begin + starts.size() - 1;
  const bool whole = std::all_of(begin, last + 1, [](std::int64_t start) { return start % 64 == 0; });
  if (*begin != 0 || *last != count || !whole || !std::is_sorted(begin, last + 1))
    fail("starts is " + text(Shape(begin, last + 1)) + "; expected ascending multiples of 64 from 0 to " + std::to_string(count) +
         ", the size of weights");
#endif
}

void bind_elementwise(KernelsClass& kernels) {
  kernels.def(
      "bias_backward",
      [](const Kernels& at, const py::object& db_, const py::object& dy_) {
        Call call("bias_backward");
        const auto db = call.array<float>("db", db_);
        const auto dy = call.array<const float>("dy", dy_);
        if (dy.of_images().shape().size() < 2) fail("dy has shape " + text(dy.shape()) + "; expected at least 2 dimensions");
        features_of(dy);
        db.of_shape({dy.shape()[0]});
        at.run(call, [&](StreamHandle stream) { bias_backward<float>(db, dy, dy.extent(0), dy.size() / dy.shape()[0], stream); });
      },
      "Computes the biases' gradient db (K), the sum of dy (K, ...) over all other axes.", "db"_a, "dy"_a);
  kernels.def(
      "activation_forward",
      [](const Kernels& at, const py::object& y_, const py::object& x_, const std::string& kind) {
        Call call("activation_forward");
        const auto y = call.array<float>("y", y_);
        const auto x = call.array<const float>("x", x_);
        y.of_shape(x.shape());
        const Activation activation = required_activation_of(kind);
        at.run(call, [&](StreamHandle stream) { activation_forward<float>(y, x, x.size(), activation, stream); });
      },
      "Computes y = activation(x); y may be x.", "y"_a, "x"_a, py::kw_only(), "kind"_a);
  kernels.def(
      "activation_backward",
      [](const Kernels& at, const py::object& dx_, const py::object& dy_, const py::object& y_, const std::string& kind) {
        Call call("activation_backward");
        const auto dx = call.array<float>("dx", dx_);
        const auto dy = call.array<const float>("dy", dy_);
        const auto y = call.array<const float>("y", y_);
        dx.of_shape(y.shape());
        dy.of_shape(y.shape());
        const Activation activation = required_activation_of(kind);
        at.run(call, [&](StreamHandle stream) { activation_backward<float>(dx, dy, y, y.size(), activation, stream); });
      },
      "Computes dx from dy and the output y; dx may be dy.", "dx"_a, "dy"_a, "y"_a, py::kw_only(), "kind"_a);
  kernels.def(
      "dropout",
      [](const Kernels& at, const py::object& y_, const py::object& x_, const py::object& mask_, double p, double scale, std::uint64_t seed,
         std::uint32_t layer, std::uint64_t step, std::uint64_t first_feature, std::uint64_t first_image) {
        Call call("dropout");
        const auto y = call.array<float>("y", y_);
        const auto x = call.array<const float>("x", x_);
        const auto mask = call.optional<const float>("mask", mask_);
        const std::int64_t features = features_of(x);
        const float factor = float_of("scale", scale);
        y.of_shape(x.shape());
        if (mask) mask->of_shape(x.shape());
        at.run(call, [&](StreamHandle stream) {
          dropout<float>(y, x, mask ? mask->data() : nullptr, features, x.shape().back(), p, factor, seed, layer,
                         static_cast<std::uint32_t>(step), static_cast<std::uint32_t>(first_feature),
                         static_cast<std::uint32_t>(first_image), stream);
        });
      },
      "Computes y = x scale with probability 1 - p where mask > 0, else 0; y may be x.", "y"_a, "x"_a, py::kw_only(), "mask"_a = py::none(),
      "p"_a, "scale"_a, "seed"_a, "layer"_a, "step"_a, "first_feature"_a, "first_image"_a);
  kernels.def(
      "add",
      [](const Kernels& at, const py::object& y_, const py::object& a_, const py::object& b_) {
        Call call("add");
        const auto y = call.array<float>("y", y_);
        const auto a = call.array<const float>("a", a_);
        const auto b = call.array<const float>("b", b_);
        a.of_shape(y.shape());
        b.of_shape(y.shape());
        at.run(call, [&](StreamHandle stream) { add<float>(y, a, b, y.size(), stream); });
      },
      "Computes y = a + b; y may be a or b.", "y"_a, "a"_a, "b"_a);
  kernels.def(
      "sgd",
      [](const Kernels& at, const py::object& weights_, const py::object& gradients_, const py::object& momenta_, const py::object& starts_,
         const py::object& rates_, const py::object& decays_, double momentum_) {
        Call call("sgd");
        const auto weights = call.array<float>("weights", weights_);
        const auto momenta = call.array<float>("momenta", momenta_);
        const auto gradients = call.array<const float>("gradients", gradients_);
        const auto rates = call.array<const float>("rates", rates_);
        const auto decays = call.array<const float>("decays", decays_);
        const auto starts = call.array<const std::int64_t>("starts", starts_);
        gradients.of_shape(weights.of_rank(1).shape());
        momenta.of_shape(weights.shape());
        const int segments = rates.of_rank(1).extent(0);
        decays.of_shape({segments});
        starts.of_shape({std::int64_t{segments} + 1});
        if (segments < 1) fail("rates has shape " + text(rates.shape()) + "; expected at least one segment");
        check_starts(starts, weights.size());
        const float momentum = float_of("momentum", momentum_);
        at.run(call, [&](StreamHandle stream) {
          sgd(weights, gradients, momenta, starts, rates, decays, segments, weights.size(), momentum, stream);
        });
      },
      "Updates all parameters in place by one step.", "weights"_a, "gradients"_a, "momenta"_a, "starts"_a, "rates"_a, "decays"_a,
      py::kw_only(), "momentum"_a);
}

void bind_ops(KernelsClass& kernels) {
  bind_elementwise(kernels);
  kernels.def(
      "lrn_forward",
      [](const Kernels& at, const py::object& y_, const py::object& x_, int size, double k, double alpha, double beta, int groups) {
        Call call("lrn_forward");
        const auto y = call.array<float>("y", y_);
        const auto x = call.array<const float>("x", x_);
        const LrnShape shape = lrn_shape(x, size, k, alpha, beta, groups);
        y.of_shape(x.shape());
        at.run(call, [&](StreamHandle stream) { lrn_forward<float>(y, x, shape, stream); });
      },
      "Normalises x across channels (local response normalisation).", "y"_a, "x"_a, py::kw_only(), "size"_a, "k"_a, "alpha"_a, "beta"_a,
      "groups"_a);
  kernels.def(
      "lrn_backward",
      [](const Kernels& at, const py::object& dx_, const py::object& dy_, const py::object& x_, int size, double k, double alpha,
         double beta, int groups, bool masked) {
        Call call("lrn_backward");
        const auto dx = call.array<float>("dx", dx_);
        const auto dy = call.array<const float>("dy", dy_);
        const auto x = call.array<const float>("x", x_);
        const LrnShape shape = lrn_shape(x, size, k, alpha, beta, groups);
        dx.of_shape(x.shape());
        dy.of_shape(x.shape());
        at.run(call, [&](StreamHandle stream) { lrn_backward<float>(dx, dy, x, shape, masked, stream); });
      },
      "Computes dx, the gradient of lrn_forward's input; if masked, 0 unless x > 0.", "dx"_a, "dy"_a, "x"_a, py::kw_only(), "size"_a, "k"_a,
      "alpha"_a, "beta"_a, "groups"_a, "masked"_a = false);
  kernels.def(
      "maxpool_forward",
      [](const Kernels& at, const py::object& y_, const py::object& argmax_, const py::object& x_, int size, int stride, int pad,
         bool masked) {
        Call call("maxpool_forward");
        const auto y = call.array<float>("y", y_);
        const auto argmax = call.array<std::uint16_t>("argmax", argmax_);
        const auto x = call.array<const float>("x", x_);
        const PoolShape shape = pool_shape(x, y, size, stride, pad);
        argmax.of_shape(y.shape());
        at.run(call, [&](StreamHandle stream) { maxpool_forward<float>(y, argmax, x, shape, masked, stream); });
      },
      "Max-pools x; argmax is a maximum's place in its window; if masked, 65535 unless y > 0.", "y"_a, "argmax"_a, "x"_a, py::kw_only(),
      "size"_a, "stride"_a, "pad"_a, "masked"_a = false);
  kernels.def(
      "maxpool_backward",
      [](const Kernels& at, const py::object& dx_, const py::object& dy_, const py::object& argmax_, int size, int stride, int pad) {
        Call call("maxpool_backward");
        const auto dx = call.array<float>("dx", dx_);
        const auto dy = call.array<const float>("dy", dy_);
        const auto argmax = call.array<const std::uint16_t>("argmax", argmax_);
        const PoolShape shape = pool_shape(dx, dy, size, stride, pad);
        argmax.of_shape(dy.shape());
        at.run(call, [&](StreamHandle stream) { maxpool_backward<float>(dx, dy, argmax, shape, stream); });
      },
      "Computes dx, the gradient of maxpool_forward's input.", "dx"_a, "dy"_a, "argmax"_a, py::kw_only(), "size"_a, "stride"_a, "pad"_a);
  kernels.def(
      "softmax_cross_entropy",
      [](const Kernels& at, const py::object& probabilities_, const py::object& dlogits_, const py::object& losses_,
         const py::object& ranks_, const py::object& totals_, const py::object& logits_, const py::object& labels_, int k, double scale_) {
        Call call("softmax_cross_entropy");
        const auto probabilities = call.optional<float>("probabilities", probabilities_),
                   dlogits = call.optional<float>("dlogits", dlogits_);
        const auto losses = call.array<float>("losses", losses_);
        const auto ranks = call.array<std::int32_t>("ranks", ranks_);
        const auto totals = call.optional<double>("totals", totals_);
        const auto logits = call.array<const float>("logits", logits_);
        const auto labels = call.array<const std::int32_t>("labels", labels_);
        features_of(logits.of_rank(2));
        const int K = logits.extent(0), N = logits.extent(1);
        if (probabilities) probabilities->of_shape({K, N});
        if (dlogits) dlogits->of_shape({K, N});
        if (totals) totals->of_shape({4});
        losses.of_shape({N});
        ranks.of_shape({N});
        labels.of_shape({N});
        const float scale = float_of("scale", scale_);
        at.run(call, [&](StreamHandle stream) {
          softmax_cross_entropy<float>(probabilities ? probabilities->data() : nullptr, dlogits ? dlogits->data() : nullptr, losses, ranks,
                                       totals ? totals->data() : nullptr, logits, labels, K, N, k, scale, stream);
        });
      },
      "Computes losses, their gradient and ranks; the first two and totals may be None.", "probabilities"_a, "dlogits"_a, "losses"_a,
      "ranks"_a, "totals"_a, "logits"_a, "labels"_a, py::kw_only(), "k"_a, "scale"_a);
  kernels.def(
      "augment",
      [](const Kernels& at, const py::object& x_, const py::object& images_, const py::object& crops_, const py::object& mean_,
         const py::object& scale_, const py::object& shifts_) {
        Call call("augment");
        const auto x = call.array<float>("x", x_);
        const auto images = call.array<const std::uint8_t>("images", images_);
        const auto crops = call.array<const std::int32_t>("crops", crops_);
        const auto mean = call.array<const float>("mean", mean_);
        const auto scale = call.array<const float>("scale", scale_);
        const auto shifts = call.optional<const float>("shifts", shifts_);
        x.of_rank(4).of_images();
        const AugmentShape shape{
            images.of_rank(4).extent(0), images.extent(1), images.extent(2), images.extent(3), x.extent(1), x.extent(2), x.extent(3)};
        if (x.size() == 0 || images.size() == 0)
          fail("images has shape " + text(images.shape()) + " and x " + text(x.shape()) + "; expected non-empty arrays");
        if (x.shape()[0] != shape.C)
          fail("x has shape " + text(x.shape()) + "; expected the channels of images, " + std::to_string(shape.C));
        if (shape.B > shape.N) fail("x has shape " + text(x.shape()) + "; expected room for " + std::to_string(shape.B) + " images");
        crops.of_shape({shape.B, 3});
        mean.of_shape({shape.H, shape.W, shape.C});
        scale.of_shape({shape.C});
        if (shifts) shifts->of_shape({shape.B, shape.C});
        at.run(call, [&](StreamHandle stream) {
          augment<float>(x, images, crops, mean, scale, shifts ? shifts->data() : nullptr, shape, stream);
        });
      },
      "Writes crops of images to x, a net's input; shifts may be None.", "x"_a, "images"_a, "crops"_a, "mean"_a, "scale"_a, "shifts"_a);
}

// --- the host's execution model ---

#if !defined(PYALEXNET_CUDA)
template <class E>
E one_of(const char* name, const std::string& value, std::initializer_list<std::pair<const char*, E>> choices) {
  std::string expected;
  for (const auto& [word, choice] : choices) {
    if (value == word) return choice;
    expected += (expected.empty() ? "'" : ", '") + std::string(word) + "'";
  }
  fail(std::string(name) + " is '" + value + "'; expected one of " + expected);
}

void bind_execution(py::module_& m) {
  using simt::Order;
  using simt::Tiles;
  m.def(
      "set_execution",
      [](const std::string& order, std::uint64_t seed, const std::string& tiles, std::int64_t l2_bytes) {
        if (l2_bytes < 0 || l2_bytes > 1 << 30)
          fail("l2_bytes is " + std::to_string(l2_bytes) + "; expected 0, for this processor's, to 2^30");
        simt::Execution how;
        how.l2_bytes = l2_bytes;
        how.order =
            one_of<Order>("order", order, {{"forward", Order::kForward}, {"reverse", Order::kReverse}, {"shuffled", Order::kShuffled}});
        how.seed = seed;
        how.tiles =
            one_of<Tiles>("tiles", tiles, {{"host", Tiles::kHost}, {"gpu", Tiles::kGpu}, {"gpu-plain-loads", Tiles::kGpuPlainLoads}});
        simt::execution() = how;
      },
      "Sets how launches run from now on.", "order"_a = "forward", "seed"_a = 0, "tiles"_a = "host", "l2_bytes"_a = 0);
  m.def(
      "execution",
      [] {
        const simt::Execution& how = simt::execution();
        py::dict d;
        d["order"] = how.order == Order::kForward ? "forward" : how.order == Order::kReverse ? "reverse" : "shuffled";
        d["seed"] = how.seed;
        d["tiles"] = how.tiles == Tiles::kHost ? "host" : how.tiles == Tiles::kGpu ? "gpu" : "gpu-plain-loads";
        d["l2_bytes"] = how.l2_bytes;
        return d;
      },
      "Returns what set_execution set.");
  m.def("set_threads", &simt::set_threads, "Sets the number of workers; 0 for the default.", "count"_a);
  m.def("threads", &simt::threads, "Returns the number of workers.");
}
#endif

#if defined(PYALEXNET_TEST_BUILD)
/// Kernels on arrays of bfloat16, which NumPy represents by their bits.
void bind_bf16(py::module_& m) {
  const auto bf16 = [](const Array<std::uint16_t>& a) { return reinterpret_cast<simt::Bf16*>(a.data()); };
  m.def("conv_forward_bf16", [=](const py::object& y_, const py::object& x_, const py::object& w_, const py::object& b_, int stride,
                                 int pad, int groups, const std::string& activation) {
    Call call("conv_forward_bf16");
    const auto y = call.array<std::uint16_t>("y", y_), x = call.array<std::uint16_t>("x", x_), w = call.array<std::uint16_t>("w", w_);
    const auto b = call.array<const float>("b", b_);
    const ConvShape shape = conv_shape(x.of_images().shape(), w.shape(), y.shape(), stride, pad, groups);
    b.of_shape({shape.K});
    call.check_overlaps();
    constexpr ConvAlgorithm kAlgorithm = ConvAlgorithm::kDirect;
    std::vector<float> workspace(conv_forward_workspace(shape, kAlgorithm, shape.N));
    conv_forward<simt::Bf16>(bf16(y), bf16(x), bf16(w), b, workspace.data(), false, shape, activation_of(activation), kAlgorithm, shape.N,
                             nullptr);
  });
  m.def("lrn_forward_bf16", [=](const py::object& y_, const py::object& x_) {
    Call call("lrn_forward_bf16");
    const auto y = call.array<std::uint16_t>("y", y_), x = call.array<std::uint16_t>("x", x_);
    features_of(x.of_rank(4));
    y.of_shape(x.shape());
    call.check_overlaps();
    const int C = x.extent(0);
    lrn_forward<simt::Bf16>(bf16(y), bf16(x), {x.size() / C, C, 1, 5, 2.0f, 1e-4f, 0.75f}, nullptr);
  });
}

void bind_selftest(py::module_ m) {
  using namespace simt::selftest;
  bind_bf16(m);
  m.def("prefix_sum", &prefix_sum);
  m.def("warp", &warp);
  m.def("indices", &indices);
  m.def("atomics", &atomics);
  m.def("missing_barrier", &missing_barrier);
  m.def("copies", &copies);
  m.def("deadlock", &deadlock);
  m.def("unwritten", &unwritten);
  m.def("launch", &empty_launch);
}
#endif

/// Python 3.13 runs a module's entry in the main interpreter even where it is imported elsewhere, and this in the importing one.
void check_interpreter() {
  if (PyInterpreterState_Get() != PyInterpreterState_Main())
    throw py::import_error("it does not run in subinterpreters; expected the main interpreter");
}

}  // namespace
}  // namespace pyalexnet

// entry.cpp calls it, after checks.
#if defined(PYALEXNET_CUDA)
PYBIND11_MODULE(_kernels, m) {
  pyalexnet::check_interpreter();
  m.doc() = "The kernels for NVIDIA GPUs.";
  m.attr("TARGET") = "cuda";
  m.def("device_count", &pyalexnet::device_count, "Returns the number of GPUs.");
  m.def("device_error", &pyalexnet::device_error, "Returns CUDA's error if there are no GPUs, else ''.");
#else
PYBIND11_MODULE(_kernels, m) {
  pyalexnet::check_interpreter();
  m.doc() = "The kernels for this machine's processors.";
  m.attr("TARGET") = "host";
  pyalexnet::bind_execution(m);
#endif
#if defined(PYALEXNET_TEST_BUILD)
  pyalexnet::bind_selftest(m.def_submodule("selftest", "Kernels that test the host's execution model."));
#endif
  m.attr("FEW_IMAGES") = pyalexnet::few_images();
  m.attr("IMAGES_MULTIPLE") = pyalexnet::images_multiple();
  m.def("build_info", &pyalexnet::build_info, "Describes this build: version, architectures, compilers, vectors.");
  // Local to its module: both modules have a class of this name.
  pyalexnet::KernelsClass kernels(m, "Kernels", py::module_local(), "The kernels, on one stream of one device.");
#if defined(PYALEXNET_CUDA)
  kernels.def(py::init<int, std::uintptr_t>(), "device"_a, "stream"_a);
#else
  kernels.def(py::init<>());
#endif
  pyalexnet::bind_conv(kernels);
  pyalexnet::bind_ops(kernels);
}

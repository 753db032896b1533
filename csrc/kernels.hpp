// All launchers: pointers, sizes, a stream; no Python. Launchers allocate nothing and throw std::invalid_argument for arguments that break
// their rules. Arrays are in CHWN order (channels, rows, columns, images), with images padded to a multiple of images_multiple(), unless
// stated otherwise.
//
// T is the storage type of activations, their gradients and the weights that products read. Every instantiation is float now, but for
// tests; another type is one more line at the end of a launcher's file. Sums are always float, and so are parameter gradients, biases,
// losses and what SGD reads and writes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace pyalexnet {

/// A cudaStream_t on a GPU; unused on the host.
using StreamHandle = void*;

/// Extents of arrays that kernels count in 32 bits, and products of them that they do, are at most this. The margin is for loops and tiles
/// that step past the end.
constexpr std::int64_t kMaxIndex = 0x7fffffff - 4096;

/// Describes this build. (build_info.cu)
int images_multiple();
std::map<std::string, std::string> build_info();

/// CUDA builds only: number of GPUs, and CUDA's error if there are none (else empty). (device.cu)
int device_count();
std::string device_error();

/// CUDA builds only: makes a GPU the calling thread's current device for the object's lifetime. Throws std::runtime_error. (device.cu)
class CurrentDevice {
 public:
  explicit CurrentDevice(int device);
  ~CurrentDevice();
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int before_, device_;
};

enum class Activation { kNone, kRelu, kTanh };

/// A convolution's sizes: x (C, H, W, N), w (C/G, R, S, K), y (K, P, Q, N). P and Q are given, so that both floor and ceil sizes are
/// possible; pixels outside x are zeros.
struct ConvShape {
  int N, C, H, W, K, R, S, P, Q, G, stride, pad;
};

/// How a convolution is computed; kAuto: by its sizes. (conv/choose.hpp)
enum class ConvAlgorithm { kAuto, kDirect, kWinograd };

/// The algorithm that a convolution uses, kDirect or kWinograd. Throws std::invalid_argument for kWinograd where it cannot be done.
ConvAlgorithm conv_algorithm(const ConvShape& shape, ConvAlgorithm wanted);

/// Up to so many images of a forward pass are few: a CPU computes them by themselves. 0 on a GPU.
int few_images();

/// y = activation(conv(x, w) + b); b may be null. kWinograd leaves the transformed filters, conv_filter_floats, at the workspace's start;
/// with `transformed`, they are there already. Of the N images, the first `images` are wanted; the others may be computed as if their x
/// were zeros. (conv/fprop.cu)
template <class T>
void conv_forward(T* y, const T* x, const T* w, const float* b, float* workspace, bool transformed, const ConvShape& shape,
                  Activation activation, ConvAlgorithm algorithm, int images, StreamHandle stream);
std::size_t conv_filter_floats(const ConvShape& shape, ConvAlgorithm algorithm, int images);
/// Gradient of the input; where x is a ReLU's output, `mask` may be x, else null: the ReLU's input's gradient, 0 where mask is not above 0.
/// (conv/dgrad.cu)
template <class T>
void conv_backward_data(T* dx, const T* dy, const T* w, const T* mask, float* workspace, const ConvShape& shape, ConvAlgorithm algorithm,
                        StreamHandle stream);
/// Gradient of the filters. (conv/wgrad.cu)
template <class T>
void conv_backward_weights(float* dw, const T* x, const T* dy, float* workspace, const ConvShape& shape, ConvAlgorithm algorithm,
                           StreamHandle stream);
/// Floats of workspace that the three need; where none, workspace may be null. On a GPU, depends on the current device.
std::size_t conv_forward_workspace(const ConvShape& shape, ConvAlgorithm algorithm, int images);
std::size_t conv_backward_data_workspace(const ConvShape& shape, ConvAlgorithm algorithm);
std::size_t conv_backward_weights_workspace(const ConvShape& shape, ConvAlgorithm algorithm);

/// Sums dy (K, M) over its last axis into db (K). (ops/bias.cu)
template <class T>
void bias_backward(float* db, const T* dy, int K, std::int64_t M, StreamHandle stream);

/// Forward: y = activation(x), of `count` elements, in place or not. Backward: dx from dy and y. kind is kRelu or kTanh.
/// (ops/activation.cu)
template <class T>
void activation_forward(T* y, const T* x, std::int64_t count, Activation kind, StreamHandle stream);
template <class T>
void activation_backward(T* dx, const T* dy, const T* y, std::int64_t count, Activation kind, StreamHandle stream);

/// Local response normalisation of x (C, columns), columns = H W N, within groups of C/groups channels; size is odd.
struct LrnShape {
  std::int64_t columns;
  int C, groups, size;
  float k, alpha, beta;
};

/// Forward: y from x. Backward: dx from dy and x, 0 where x is not above 0 if `masked`: where x is a ReLU's output, the ReLU's input's
/// gradient. (ops/lrn.cu)
template <class T>
void lrn_forward(T* y, const T* x, const LrnShape& shape, StreamHandle stream);
template <class T>
void lrn_backward(T* dx, const T* dy, const T* x, const LrnShape& shape, bool masked, StreamHandle stream);

/// Max pooling of x (C, H, W, N) to y (C, P, Q, N). P and Q are given, so that both floor and ceil sizes are possible. Windows are clipped
/// at the borders; none may be empty.
struct PoolShape {
  int N, C, H, W, P, Q, size, stride, pad;
};

/// Forward: y, and argmax, the position of each maximum in its window; 65535, in no window, where y is not above 0 if `masked`: where x is
/// a ReLU's output, backward then gives the ReLU's input's gradient. Backward: dx from dy and argmax. (ops/pool.cu)
template <class T>
void maxpool_forward(T* y, std::uint16_t* argmax, const T* x, const PoolShape& shape, bool masked, StreamHandle stream);
template <class T>
void maxpool_backward(T* dx, const T* dy, const std::uint16_t* argmax, const PoolShape& shape, StreamHandle stream);

/// y = x scale with probability 1 - p, else 0, of x (F, N) in place or not; its gradient is the same call. What is kept depends only on
/// seed, layer, step, first_feature + feature and first_image + image. mask (F, N) may be null: y is 0 where it is not above 0, too.
/// (ops/dropout.cu)
template <class T>
void dropout(T* y, const T* x, const T* mask, std::int64_t F, std::int64_t N, double p, float scale, std::uint64_t seed,
             std::uint32_t layer, std::uint32_t step, std::uint32_t first_feature, std::uint32_t first_image, StreamHandle stream);

/// y = a + b, of `count` elements; y may be a or b. (ops/add.cu)
template <class T>
void add(T* y, const T* a, const T* b, std::int64_t count, StreamHandle stream);

/// Loss, its gradient times `scale`, and ranks, from logits (K, N) and labels (N); a label of -1 masks its image. Adds to totals (4):
/// losses, correct answers, correct answers among the best k, images. probabilities, dlogits and totals may be null. (ops/softmax.cu)
template <class T>
void softmax_cross_entropy(float* probabilities, T* dlogits, float* losses, std::int32_t* ranks, double* totals, const T* logits,
                           const std::int32_t* labels, int K, int N, int k, float scale, StreamHandle stream);

/// One step over all parameters: `count` floats in `segments` segments, each with its own rate and decay. (ops/sgd.cu)
void sgd(float* weights, const float* gradients, float* momenta, const std::int64_t* starts, const float* rates, const float* decays,
         int segments, std::int64_t count, float momentum, StreamHandle stream);

/// Crops of h x w from B images of H x W, written to the first B of x's N images.
struct AugmentShape {
  int B, H, W, C, h, w, N;
};

/// Fills x (C, h, w, N); shifts (B, C) may be null. (ops/augment.cu)
template <class T>
void augment(T* x, const std::uint8_t* images, const std::int32_t* crops, const float* mean, const float* scale, const float* shifts,
             const AugmentShape& shape, StreamHandle stream);

}  // namespace pyalexnet

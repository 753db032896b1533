// Every launcher: pointers, sizes, a stream. No Python here. Launchers allocate nothing and throw std::invalid_argument for
// arguments that break their rules. Arrays are float32 in CHWN order (channels, rows, columns, images), images padded to a
// multiple of images_multiple(), unless said otherwise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace pyalexnet {

/// A cudaStream_t on a GPU; unused on the host.
using StreamHandle = void*;

/// What this build was made for and how. (target.cu)
int images_multiple();
std::map<std::string, std::string> build_info();

/// CUDA's build only: how many GPUs the driver has, and why there is none (empty when there is nothing wrong).
int device_count();
std::string device_error();

enum class Activation { kNone, kRelu, kTanh };

/// A convolution's sizes: x (C, H, W, N), w (C/G, R, S, K), y (K, P, Q, N). P and Q are given, so that floor and ceil sizes are
/// both possible; pixels outside x are zeros.
struct ConvShape {
  int N, C, H, W, K, R, S, P, Q, G, stride, pad;
};

/// y = activation(conv(x, w) + b); b may be null. (conv/fprop.cu)
void conv_forward(float* y, const float* x, const float* w, const float* b, const ConvShape& shape, Activation activation,
                  StreamHandle stream);
/// dx from dy. (conv/dgrad.cu)
void conv_backward_data(float* dx, const float* dy, const float* w, const ConvShape& shape, StreamHandle stream);
/// dw from x and dy; workspace has conv_backward_weights_workspace(shape) floats. (conv/wgrad.cu)
void conv_backward_weights(float* dw, const float* x, const float* dy, float* workspace, const ConvShape& shape, StreamHandle stream);
std::size_t conv_backward_weights_workspace(const ConvShape& shape);

/// db (K) from dy (K, M). (ops/bias.cu)
void bias_backward(float* db, const float* dy, int K, std::int64_t M, StreamHandle stream);

/// y = activation(x), of `count` elements in place or not; dx from dy and y. kind is kRelu or kTanh. (ops/activation.cu)
void activation_forward(float* y, const float* x, std::int64_t count, Activation kind, StreamHandle stream);
void activation_backward(float* dx, const float* dy, const float* y, std::int64_t count, Activation kind, StreamHandle stream);

/// Local response normalisation of x (C, columns), columns = H W N, within groups of C/groups channels; size is odd.
struct LrnShape {
  std::int64_t columns;
  int C, groups, size;
  float k, alpha, beta;
};

/// y, and dx from dy and x. (ops/lrn.cu)
void lrn_forward(float* y, const float* x, const LrnShape& shape, StreamHandle stream);
void lrn_backward(float* dx, const float* dy, const float* x, const LrnShape& shape, StreamHandle stream);

/// Max pooling of x (C, H, W, N) to y (C, P, Q, N). P and Q are given, so that floor and ceil sizes are both possible; windows are
/// clipped at the borders and none may be empty.
struct PoolShape {
  int N, C, H, W, P, Q, size, stride, pad;
};

/// y and where each maximum was, and dx from dy and that. (ops/pool.cu)
void maxpool_forward(float* y, std::uint16_t* argmax, const float* x, const PoolShape& shape, StreamHandle stream);
void maxpool_backward(float* dx, const float* dy, const std::uint16_t* argmax, const PoolShape& shape, StreamHandle stream);

/// y = x scale with probability 1 - p, else 0, of x (F, N) in place or not; the same call is its own gradient. The mask depends on
/// seed, layer, step, first_feature + feature and first_image + image alone. (ops/dropout.cu)
void dropout(float* y, const float* x, std::int64_t F, std::int64_t N, double p, float scale, std::uint64_t seed, std::uint32_t layer,
             std::uint32_t step, std::uint32_t first_feature, std::uint32_t first_image, StreamHandle stream);

/// y = a + b, of `count` elements; y may be a or b. (ops/add.cu)
void add(float* y, const float* a, const float* b, std::int64_t count, StreamHandle stream);

/// Loss, its gradient times `scale`, and ranks, from logits (K, N) and labels (N), -1 for an image to leave out; adds to totals (4):
/// losses, right answers, answers right within the best k, images. probabilities, dlogits and totals may be null. (ops/softmax.cu)
void softmax_cross_entropy(float* probabilities, float* dlogits, float* losses, std::int32_t* ranks, double* totals, const float* logits,
                           const std::int32_t* labels, int K, int N, int k, float scale, StreamHandle stream);

/// A step over all parameters: `count` floats in `segments` segments, each with its own rate and decay. (ops/sgd.cu)
void sgd(float* weights, const float* gradients, float* momenta, const std::int64_t* starts, const float* rates, const float* decays,
         int segments, std::int64_t count, float momentum, StreamHandle stream);

/// Crops of h x w from B images of H x W, as the first B of x's N images.
struct AugmentShape {
  int B, H, W, C, h, w, N;
};

/// Fills x (C, h, w, N); shifts (B, C) may be null. (ops/augment.cu)
void augment(float* x, const std::uint8_t* images, const std::int32_t* crops, const float* mean, const float* scale, const float* shifts,
             const AugmentShape& shape, StreamHandle stream);

}  // namespace pyalexnet

// Winograd's convolutions, for the launchers of the three passes.
#pragma once

#include "kernels.hpp"

namespace pyalexnet::winograd {

/// A pass of stride 1 with square filters: the forward pass, or the data gradient, whose input is dy and whose filters are turned.
struct Pass {
  int images, groups;
  int channels, height, width;  // of the input; channels of a group
  int filters, rows, columns;   // of the output; filters of a group
  int taps, pad;
  bool turned;

  static Pass forward(const ConvShape& s) { return {s.N, s.G, s.C / s.G, s.H, s.W, s.K / s.G, s.P, s.Q, s.R, s.pad, false}; }
  static Pass data_gradient(const ConvShape& s) { return {s.N, s.G, s.K / s.G, s.P, s.Q, s.C / s.G, s.H, s.W, s.R, s.R - 1 - s.pad, true}; }
};

/// Floats of a pass's transformed filters.
std::size_t filter_floats(const Pass& pass);
/// Transforms the filters w of the layer. (conv/winograd_filters.cu)
void transform_filters(float* u, const float* w, const Pass& pass, StreamHandle stream);
/// y = the convolution, finished by an epilogue's AddBias or MaskGradient<float>. (conv/winograd_fprop.cu)
template <class Finish>
void convolve(float* y, const float* x, const float* u, const Finish& last, const Pass& pass, StreamHandle stream);
/// Gradient of the filters, of the forward pass. The workspace has weight_gradient_floats. (conv/winograd_wgrad.cu)
std::size_t weight_gradient_floats(const Pass& pass);
void weight_gradient(float* dw, const float* x, const float* dy, float* workspace, const Pass& pass, StreamHandle stream);

}  // namespace pyalexnet::winograd

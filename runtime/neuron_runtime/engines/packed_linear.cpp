// Products of few rows with weights that are read once, in the order in which they lie in memory.
//
// Weights are stored in panels of 16 columns, [panels, inputs, 16]: one panel's products stay in registers over all
// inputs, and its numbers come from memory in one stream, which is what bounds a decode step. Part of every graph:
// `packed_linear.py` has the layout, and the operator that graphs call this through.

#include <immintrin.h>

#include <algorithm>
#include <cstdint>

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

namespace {

constexpr int kPanel = 16;
#ifdef __AVX512F__
constexpr int kLanes = 16;
constexpr int kMostRows = 12;
#else
constexpr int kLanes = 8;
// 12 sums, two vectors of weights and one number of x: all 16 registers but one.
constexpr int kMostRows = 6;
#endif
constexpr int kVectors = kPanel / kLanes;
// How far ahead of the product weights are asked for, in bytes: hardware does not look past a page by itself.
constexpr int64_t kAhead = 4096;
// What memory gives at once.
constexpr int kLine = 64;

typedef float Vector __attribute__((vector_size(4 * kLanes), aligned(4)));

inline Vector load(const float* weights) { return *reinterpret_cast<const Vector*>(weights); }

inline Vector load(const int8_t* weights) {
#ifdef __AVX512F__
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(weights))));
#else
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(weights))));
#endif
}

// Sums of one number that are kept apart until the end. Additions wait for each other, and what has so few bytes as an
// int8 comes from memory faster than one or two rows of sums could take it.
template <int Rows, typename Weight>
constexpr int kChains = sizeof(Weight) > 1 || Rows > 2 ? 1 : 4 / Rows;

template <int Rows, typename Weight>
inline __attribute__((always_inline)) void add(Vector (&sums)[Rows][kVectors], const Weight* weights, const float* x,
                                               int64_t inputs) {
  Vector row[kVectors];
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) row[v] = load(weights + v * kLanes);
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sums[r][v] += row[v] * x[r * inputs];
}

// Not inlined: by itself, it has all registers for its sums. Among its sisters, some of them would lie on the stack.
template <int Rows, typename Weight>
__attribute__((noinline)) void multiply(const float* x, int64_t inputs, const Weight* panel, const float* scales,
                                        float* out, int64_t outputs, int64_t columns) {
  constexpr int chains = kChains<Rows, Weight>, steps = kLine / (kPanel * sizeof(Weight));
  Vector sums[chains][Rows][kVectors] = {};
  int64_t k = 0;
  for (; k + steps <= inputs; k += steps) {
    // A single row asks for weights as fast as they come: more asking would only be in its way.
    if constexpr (Rows > 1) __builtin_prefetch(reinterpret_cast<const char*>(panel + k * kPanel) + kAhead);
#pragma GCC unroll 4
    for (int step = 0; step < steps; ++step)
      add<Rows>(sums[step % chains], panel + (k + step) * kPanel, x + k + step, inputs);
  }
  for (; k < inputs; ++k) add<Rows>(sums[0], panel + k * kPanel, x + k, inputs);
  // Unrolled as the loops above are: only sums that are never found by a number of the running program stay in registers.
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
    float line[kPanel];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      Vector sum = sums[0][r][v];
#pragma GCC unroll 4
      for (int chain = 1; chain < chains; ++chain) sum += sums[chain][r][v];
      *reinterpret_cast<Vector*>(line + v * kLanes) = sum;
    }
    if (scales != nullptr)
      for (int64_t column = 0; column < columns; ++column) line[column] *= scales[column];
    std::copy_n(line, columns, out + r * outputs);
  }
}

template <int Rows = kMostRows, typename Weight>
void multiply_rows(int64_t rows, const float* x, int64_t inputs, const Weight* panel, const float* scales, float* out,
                   int64_t outputs, int64_t columns) {
  if constexpr (Rows > 1) {
    if (rows < Rows) return multiply_rows<Rows - 1>(rows, x, inputs, panel, scales, out, outputs, columns);
  }
  multiply<Rows>(x, inputs, panel, scales, out, outputs, columns);
}

template <typename Weight>
void multiply_all(const float* x, const Weight* weights, const float* scales, float* out, int64_t rows, int64_t inputs,
                  int64_t outputs) {
  const int64_t panels = (outputs + kPanel - 1) / kPanel;
  const int64_t blocks = (rows + kMostRows - 1) / kMostRows;
#pragma omp parallel for schedule(static)
  for (int64_t p = 0; p < panels; ++p) {
    const int64_t column = p * kPanel;
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t first = rows * block / blocks, end = rows * (block + 1) / blocks;
      multiply_rows(end - first, x + first * inputs, inputs, weights + column * inputs,
                    scales == nullptr ? nullptr : scales + column, out + first * outputs + column, outputs,
                    std::min<int64_t>(kPanel, outputs - column));
    }
  }
}

template <typename Weight>
AOTITorchError multiply_tensors(AtenTensorHandle x, AtenTensorHandle weights, AtenTensorHandle scales, int64_t outputs,
                                AtenTensorHandle* result) {
  void *from = nullptr, *with = nullptr, *by = nullptr, *to = nullptr;
  int64_t* sizes = nullptr;
  if (AOTITorchError error = aoti_torch_get_data_ptr(x, &from)) return error;
  if (AOTITorchError error = aoti_torch_get_data_ptr(weights, &with)) return error;
  if (scales != nullptr)
    if (AOTITorchError error = aoti_torch_get_data_ptr(scales, &by)) return error;
  if (AOTITorchError error = aoti_torch_get_sizes(x, &sizes)) return error;
  const int64_t shape[] = {sizes[0], outputs}, strides[] = {outputs, 1}, inputs = sizes[1];
  if (AOTITorchError error = aoti_torch_empty_strided(2, shape, strides, aoti_torch_dtype_float32(),
                                                      aoti_torch_device_type_cpu(), 0, result))
    return error;
  if (AOTITorchError error = aoti_torch_get_data_ptr(*result, &to)) return error;
  multiply_all(static_cast<const float*>(from), static_cast<const Weight*>(with), static_cast<const float*>(by),
               static_cast<float*>(to), shape[0], inputs, outputs);
  return 0;
}

}  // namespace

// x: float32[rows, inputs], weights: float32[panels, inputs, 16], both contiguous; *result: float32[rows, outputs].
extern "C" AOTITorchError aoti_torch_cpu_packed_linear(AtenTensorHandle x, AtenTensorHandle weights, int64_t outputs,
                                                       AtenTensorHandle* result) {
  return multiply_tensors<float>(x, weights, nullptr, outputs, result);
}

// The same with weights: int8[panels, inputs, 16], of which column c stands for scales[c] times its numbers.
extern "C" AOTITorchError aoti_torch_cpu_packed_int8_linear(AtenTensorHandle x, AtenTensorHandle weights,
                                                            AtenTensorHandle scales, int64_t outputs,
                                                            AtenTensorHandle* result) {
  return multiply_tensors<int8_t>(x, weights, scales, outputs, result);
}

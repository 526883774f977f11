// Products of few rows with weights that are read once, in the order in which they lie in memory.
//
// Weights are stored in panels of 16 columns, [panels, inputs, 16]: one panel's products stay in registers over all
// inputs, and its numbers come from memory in one stream, which is what bounds a decode step. Part of every graph:
// `packed_linear.py` has the layout, and the operator that graphs call this through.

#include <algorithm>
#include <cstdint>

extern "C" {
// Of torch's C interface, as far as it is needed here; a graph finds them where it finds the others.
int32_t aoti_torch_get_data_ptr(void* tensor, void** data);
int32_t aoti_torch_get_sizes(void* tensor, int64_t** sizes);
int32_t aoti_torch_empty_strided(int64_t dimensions, const int64_t* sizes, const int64_t* strides, int32_t dtype,
                                 int32_t device_type, int32_t device_index, void** tensor);
int32_t aoti_torch_dtype_float32();
int32_t aoti_torch_device_type_cpu();
}

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
// How far ahead of the product weights are asked for, in numbers: hardware does not look past a page by itself.
constexpr int64_t kAhead = 1024;

typedef float Vector __attribute__((vector_size(4 * kLanes), aligned(4)));

template <int Rows>
void multiply(const float* x, int64_t inputs, const float* panel, float* out, int64_t outputs, int64_t columns) {
  Vector sums[Rows][kVectors] = {};
  for (int64_t k = 0; k < inputs; ++k) {
    const float* weights = panel + k * kPanel;
    __builtin_prefetch(weights + kAhead);
    Vector row[kVectors];
    for (int v = 0; v < kVectors; ++v) row[v] = *reinterpret_cast<const Vector*>(weights + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sums[r][v] += row[v] * x[r * inputs + k];
  }
  for (int r = 0; r < Rows; ++r) {
    float line[kPanel];
    for (int v = 0; v < kVectors; ++v) *reinterpret_cast<Vector*>(line + v * kLanes) = sums[r][v];
    std::copy_n(line, columns, out + r * outputs);
  }
}

template <int Rows = kMostRows>
void multiply_rows(int64_t rows, const float* x, int64_t inputs, const float* panel, float* out, int64_t outputs,
                   int64_t columns) {
  if constexpr (Rows > 1) {
    if (rows < Rows) return multiply_rows<Rows - 1>(rows, x, inputs, panel, out, outputs, columns);
  }
  multiply<Rows>(x, inputs, panel, out, outputs, columns);
}

void multiply_all(const float* x, const float* weights, float* out, int64_t rows, int64_t inputs, int64_t outputs) {
  const int64_t panels = (outputs + kPanel - 1) / kPanel;
  const int64_t blocks = (rows + kMostRows - 1) / kMostRows;
#pragma omp parallel for schedule(static)
  for (int64_t p = 0; p < panels; ++p) {
    const int64_t column = p * kPanel;
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t first = rows * block / blocks, end = rows * (block + 1) / blocks;
      multiply_rows(end - first, x + first * inputs, inputs, weights + column * inputs,
                    out + first * outputs + column, outputs, std::min<int64_t>(kPanel, outputs - column));
    }
  }
}

}  // namespace

// x: float32[rows, inputs], weights: float32[panels, inputs, 16], both contiguous; *result: float32[rows, outputs].
extern "C" int32_t aoti_torch_cpu_packed_linear(void* x, void* weights, int64_t outputs, void** result) {
  void *from = nullptr, *with = nullptr, *to = nullptr;
  int64_t* sizes = nullptr;
  if (int32_t error = aoti_torch_get_data_ptr(x, &from)) return error;
  if (int32_t error = aoti_torch_get_data_ptr(weights, &with)) return error;
  if (int32_t error = aoti_torch_get_sizes(x, &sizes)) return error;
  const int64_t shape[] = {sizes[0], outputs}, strides[] = {outputs, 1}, inputs = sizes[1];
  if (int32_t error = aoti_torch_empty_strided(2, shape, strides, aoti_torch_dtype_float32(),
                                               aoti_torch_device_type_cpu(), 0, result))
    return error;
  if (int32_t error = aoti_torch_get_data_ptr(*result, &to)) return error;
  multiply_all(static_cast<const float*>(from), static_cast<const float*>(with), static_cast<float*>(to), shape[0],
               inputs, outputs);
  return 0;
}

// Attention of single tokens to what their slots hold, read where it lies.
//
// A row stands for one token: it attends to the positions of its slot's cache up to its own, and no further, so that
// neither caches are copied nor empty ones read. The query heads that share keys take them together, block by block.
// Part of every graph: `slot_attention.py` has the operator that graphs call this through.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>

#include <omp.h>

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

namespace {

#ifdef __AVX512F__
constexpr int kLanes = 16;
#else
constexpr int kLanes = 8;
#endif
// Positions whose keys stay in the nearest cache while the heads that share them take their turns.
constexpr int64_t kBlock = 32;

typedef float Vector __attribute__((vector_size(4 * kLanes), aligned(4)));
typedef int32_t Integers __attribute__((vector_size(4 * kLanes), aligned(4)));

Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }

void store(float* to, Vector value) { *reinterpret_cast<Vector*>(to) = value; }

Vector all(float value) { return Vector{} + value; }

// Of numbers up to 0, exact but for the last bits.
Vector exponential(Vector x) {
  const Vector lowest = all(-87.0f);
  x = x < lowest ? lowest : x;
  // Added, it leaves the nearest whole number in the lowest bits.
  const Vector rounding = all(12582912.0f);
  const Vector rounded = x * 1.44269504088896341f + rounding;
  Integers exponent;
  std::memcpy(&exponent, &rounded, sizeof exponent);
  const Vector whole = rounded - rounding;
  const Vector rest = x - whole * 0.693359375f + whole * 2.12194440e-4f;
  Vector sum = all(1.9875691500e-4f);
  for (float factor : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    sum = sum * rest + factor;
  sum = sum * rest * rest + rest + 1.0f;
  const Integers bits = (exponent << 23) + 0x3f800000;
  Vector power;
  std::memcpy(&power, &bits, sizeof power);
  return sum * power;
}

// Sums of neighbors: of the first vector, then of the second.
Vector fold(Vector a, Vector b) {
#ifdef __AVX512F__
  const Integers even = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
#else
  const Integers even = {0, 2, 4, 6, 8, 10, 12, 14};
#endif
  return __builtin_shuffle(a, b, even) + __builtin_shuffle(a, b, even + 1);
}

// The sum of each of so many vectors.
template <int Count = kLanes>
Vector totals(const Vector* vectors) {
  if constexpr (Count == 1) {
    return vectors[0];
  } else {
    Vector folded[Count / 2];
#pragma GCC unroll 8
    for (int i = 0; i < Count / 2; ++i) folded[i] = fold(vectors[2 * i], vectors[2 * i + 1]);
    return totals<Count / 2>(folded);
  }
}

// What one row's heads of one group read and write. `scores` has room for `room` numbers of each head.
struct Heads {
  const float* queries;
  const float* keys;
  const float* values;
  float* out;
  float* scores;
  int64_t group;
  int64_t size;
  int64_t stride;
  int64_t count;
  int64_t room;
};

// Products of a head with the keys of positions [from, end); `from` is a multiple of the lanes.
template <int Vectors>
void score(const Heads& heads, const float* query, float* scores, int64_t from, int64_t end) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(heads.size));
  if constexpr (Vectors == 0) {
    for (int64_t p = from; p < end; ++p) {
      float sum = 0.0f;
      for (int64_t i = 0; i < heads.size; ++i) sum += query[i] * heads.keys[p * heads.stride + i];
      scores[p] = scale * sum;
    }
  } else {
    Vector parts[Vectors];
    for (int v = 0; v < Vectors; ++v) parts[v] = load(query + v * kLanes) * scale;
    for (int64_t p = from; p < end; p += kLanes) {
      Vector sums[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        const float* key = heads.keys + std::min(p + i, end - 1) * heads.stride;
        sums[i] = parts[0] * load(key);
#pragma GCC unroll 16
        for (int v = 1; v < Vectors; ++v) sums[i] += parts[v] * load(key + v * kLanes);
      }
      store(scores + p, totals(sums));
    }
  }
}

// Adds values of positions [from, end), weighted by a head's scores.
template <int Vectors>
void gather(const Heads& heads, const float* scores, float* out, int64_t from, int64_t end) {
  if constexpr (Vectors == 0) {
    for (int64_t p = from; p < end; ++p)
      for (int64_t i = 0; i < heads.size; ++i) out[i] += scores[p] * heads.values[p * heads.stride + i];
  } else {
    Vector sums[Vectors];
    for (int v = 0; v < Vectors; ++v) sums[v] = load(out + v * kLanes);
    for (int64_t p = from; p < end; ++p)
#pragma GCC unroll 16
      for (int v = 0; v < Vectors; ++v) sums[v] += scores[p] * load(heads.values + p * heads.stride + v * kLanes);
    for (int v = 0; v < Vectors; ++v) store(out + v * kLanes, sums[v]);
  }
}

// Turns a head's scores into weights that sum to 1.
void normalize(float* scores, int64_t count) {
  const int64_t end = (count + kLanes - 1) / kLanes * kLanes;
  std::fill(scores + count, scores + end, -std::numeric_limits<float>::infinity());
  const float most = *std::max_element(scores, scores + count);
  Vector sums{};
  for (int64_t p = 0; p < end; p += kLanes) {
    const Vector weights = exponential(load(scores + p) - most);
    store(scores + p, weights);
    sums += weights;
  }
  float sum = 0.0f;
  for (int i = 0; i < kLanes; ++i) sum += sums[i];
  for (int64_t p = 0; p < end; p += kLanes) store(scores + p, load(scores + p) / sum);
}

template <int Vectors>
void attend(const Heads& heads) {
  for (int64_t from = 0; from < heads.count; from += kBlock)
    for (int64_t g = 0; g < heads.group; ++g)
      score<Vectors>(heads, heads.queries + g * heads.size, heads.scores + g * heads.room, from,
                     std::min(heads.count, from + kBlock));
  for (int64_t g = 0; g < heads.group; ++g) normalize(heads.scores + g * heads.room, heads.count);
  for (int64_t from = 0; from < heads.count; from += kBlock)
    for (int64_t g = 0; g < heads.group; ++g)
      gather<Vectors>(heads, heads.scores + g * heads.room, heads.out + g * heads.size, from,
                      std::min(heads.count, from + kBlock));
}

void attend_any(const Heads& heads) {
  switch (heads.size) {
    case 64: return attend<64 / kLanes>(heads);
    case 96: return attend<96 / kLanes>(heads);
    case 128: return attend<128 / kLanes>(heads);
    default: return attend<0>(heads);
  }
}

struct Shape {
  int64_t rows;
  int64_t heads;
  int64_t size;
  int64_t positions;
  int64_t shared;
};

void attend_all(const float* queries, const float* keys, const float* values, const int64_t* slots,
                const int64_t* positions, float* out, const Shape& shape) {
  const int64_t group = shape.heads / shape.shared, stride = shape.shared * shape.size;
  const int64_t room = (shape.positions + kLanes - 1) / kLanes * kLanes;
  std::fill_n(out, shape.rows * shape.heads * shape.size, 0.0f);
  // Not by the threads themselves: what is thrown in a parallel region ends the process.
  const std::unique_ptr<float[]> scores(new float[omp_get_max_threads() * group * room]);
#pragma omp parallel for collapse(2) schedule(dynamic)
  for (int64_t row = 0; row < shape.rows; ++row)
    for (int64_t h = 0; h < shape.shared; ++h) {
      // The position after the context is that of pads: nobody reads what comes of them.
      if (positions[row] >= shape.positions - 1) continue;
      const int64_t held = slots[row] * shape.positions * stride + h * shape.size;
      const int64_t head = (row * shape.heads + h * group) * shape.size;
      attend_any({queries + head, keys + held, values + held, out + head,
                  scores.get() + omp_get_thread_num() * group * room, group, shape.size, stride, positions[row] + 1,
                  room});
    }
}

}  // namespace

// queries: float32[rows, heads, size], keys and values: float32[slots, positions, shared, size], slots and positions:
// int64[rows], all contiguous; *result: float32[rows, heads, size].
extern "C" AOTITorchError aoti_torch_cpu_slot_attention(AtenTensorHandle queries, AtenTensorHandle keys,
                                                        AtenTensorHandle values, AtenTensorHandle slots,
                                                        AtenTensorHandle positions, AtenTensorHandle* result) {
  int64_t *sizes = nullptr, *held = nullptr;
  if (AOTITorchError error = aoti_torch_get_sizes(queries, &sizes)) return error;
  if (AOTITorchError error = aoti_torch_get_sizes(keys, &held)) return error;
  const int64_t shape[] = {sizes[0], sizes[1], sizes[2]}, strides[] = {sizes[1] * sizes[2], sizes[2], 1};
  if (AOTITorchError error = aoti_torch_empty_strided(3, shape, strides, aoti_torch_dtype_float32(),
                                                      aoti_torch_device_type_cpu(), 0, result))
    return error;
  const AtenTensorHandle tensors[] = {queries, keys, values, slots, positions, *result};
  void* data[6] = {};
  for (int i = 0; i < 6; ++i)
    if (AOTITorchError error = aoti_torch_get_data_ptr(tensors[i], data + i)) return error;
  attend_all(static_cast<const float*>(data[0]), static_cast<const float*>(data[1]), static_cast<const float*>(data[2]),
             static_cast<const int64_t*>(data[3]), static_cast<const int64_t*>(data[4]), static_cast<float*>(data[5]),
             {shape[0], shape[1], shape[2], held[1], held[2]});
  return 0;
}

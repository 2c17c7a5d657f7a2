// Linear layers with a block-sparse or an unstructured weight: forward, and backward in one pass.
//
// One source for every instruction set.  Vectors are GCC/Clang vector types as wide as the target's registers,
// so there are no intrinsics to read: the build compiles this file once for AVX-512, once for AVX2 and once
// for the plain target, and the loader takes the best that the machine has.  All arithmetic is fp32, with fused
// multiply-add where the target has it; never build it with -ffast-math (it would flush denormals to zero in the
// whole process).
//
// y = x W' + b with x (tokens, inputs), W (outputs, inputs), y (tokens, outputs), all row-major.
//
// Blocks.  W is cut into B x B blocks, of which a few live.  `values` holds the living ones, row of blocks by row
// of blocks, each as (output, input).  Tokens are taken in panels that fit the second-level cache.  A panel is
// copied to tiles, tile[c][token][B], so that the micro-kernels address everything at fixed distances from one
// pointer and no two tokens compete for a set of the cache.  The copy is also where borders are padded with zeros
// and where the gradient of the bias is summed.  The micro-kernel of `multiply` keeps R tokens x B outputs in
// registers; that of `gradient` keeps a piece of a block, summed over the tokens of a panel.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "pool.h"

namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kAccumulators = 24;
#elif defined(__AVX2__)
constexpr int kLanes = 8, kAccumulators = 12;
#else
constexpr int kLanes = 4, kAccumulators = 12;
#endif

// Floats of a panel that are to lie in the second-level cache, forward and backward.
constexpr long kPanel = 1 << 16, kBackPanel = 1 << 17;

#define INLINE static inline __attribute__((always_inline))

typedef float Vector __attribute__((vector_size(kLanes * 4), may_alias));
typedef float Unaligned __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef int32_t Lanes __attribute__((vector_size(kLanes * 4)));
typedef double Doubles __attribute__((vector_size(kLanes * 4), may_alias));

INLINE Vector load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
INLINE void store(float* p, Vector v) { *reinterpret_cast<Unaligned*>(p) = v; }

// Lane n of the result is lane I[n] of two vectors end to end.
template <int... I>
INLINE Vector shuffle(Vector a, Vector b) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, I...);
#else
  return __builtin_shuffle(a, b, Lanes{I...});
#endif
}

template <int kFrom, int... I>
INLINE Vector every_second(Vector a, Vector b, std::integer_sequence<int, I...>) {
  return shuffle<(2 * I + kFrom)...>(a, b);
}

// The lanes 0, 2, 4, ... (or 1, 3, 5, ... with kFrom = 1) of two vectors end to end.
template <int kFrom>
INLINE Vector every_second(Vector a, Vector b) {
  return every_second<kFrom>(a, b, std::make_integer_sequence<int, kLanes>());
}

// The first lanes, each repeated kTimes.
template <int kTimes, int... I>
INLINE Vector repeat(Vector v, std::integer_sequence<int, I...>) {
  return shuffle<(I / kTimes)...>(v, v);
}

// The first kLength lanes, over and over.
template <int kLength, int... I>
INLINE Vector cycle(Vector v, std::integer_sequence<int, I...>) {
  return shuffle<(I % kLength)...>(v, v);
}

// ---------------------------------------------------------------------------------------------------------
// Threads and memory

// Memory that is given back when it goes out of scope; aligned to a cache line.
class Buffer {
 public:
  explicit Buffer(long floats)
      : data_(static_cast<float*>(std::aligned_alloc(64, static_cast<size_t>(ceil_div(floats + 16, 16)) * 64))) {
    if (!data_) throw std::bad_alloc();
  }
  ~Buffer() { std::free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  float* get() { return data_; }

 private:
  float* data_;
};

// Add to the first of `parts` arrays of `size` floats, end to end, all others: always in the same order.
void add_parts(float* arrays, long size, int parts) {
  parallel(parts, [&](int piece) {
    for (int part = 1; part < parts; part++)
      for (long i = size * piece / parts; i < size * (piece + 1) / parts; i++) arrays[i] += arrays[size * part + i];
  });
}

// ---------------------------------------------------------------------------------------------------------
// Blocks

// How a row of blocks is laid over vectors.  Where a block is narrower than a vector, a vector holds B outputs x
// kPack neighbouring inputs, and their products are added at the end.
template <int B>
struct Layout {
  static constexpr int kPack = B < kLanes ? kLanes / B : 1;              // inputs side by side in a vector
  static constexpr int kSteps = B / kPack;                               // steps over the inputs of a block
  static constexpr int kWide = B < kLanes ? 1 : B / kLanes;              // vectors over the outputs
  static constexpr int kVectors = kWide > 2 ? 2 : kWide;                 // of these, at a time
  static constexpr int kTokens = kAccumulators / kVectors;               // tokens at a time in `multiply`
  typedef float Row __attribute__((vector_size(B * 4), aligned(4), may_alias));
  static constexpr int kRow = B * kPack;                                 // floats in a step
};

// kPack neighbouring floats, repeated over a vector; more than two reads a whole vector.  (x - 0 is x for every x,
// and compiles to nothing.)
template <int kPack>
INLINE Vector spread(const float* p) {
  if constexpr (kPack == 1) {
    return *p - Vector{};
  } else if constexpr (kPack == 2) {
    double pair;
    std::memcpy(&pair, p, sizeof pair);
    return (Vector)(pair - Doubles{});
  } else {
    return cycle<kPack>(load(p), std::make_integer_sequence<int, kLanes>());
  }
}

// The sums of every kPack neighbouring floats of a vector, B of them.
template <int B>
INLINE typename Layout<B>::Row fold(Vector v) {
  for (int width = Layout<B>::kPack; width > 1; width /= 2) v = every_second<0>(v, v) + every_second<1>(v, v);
  typename Layout<B>::Row row;
  std::memcpy(&row, &v, sizeof row);
  return row;
}

// A vector of B floats, each repeated kPack times; reads a whole vector.
template <int B>
INLINE Vector widen(const float* p) {
  if constexpr (B >= kLanes) {
    return load(p);
  } else {
    return repeat<Layout<B>::kPack>(load(p), std::make_integer_sequence<int, kLanes>());
  }
}

// Copy a panel of a row-major matrix to tiles: tile[c][token][B], zeros outside the matrix.
//
// rows x columns is what there is of the panel, `room` the tokens of a tile.  With `sums`, the sum of every
// column is added to it.
template <int B>
void pack(const float* matrix, long stride, long rows, long columns, long room, float* tiles, float* sums) {
  const long whole = columns / B;
  for (long c = 0; c < whole; c++) {
    const float* from = matrix + c * B;
    float* to = tiles + c * room * B;
    typedef typename Layout<B>::Row Row;
    Row sum = {};
    for (long t = 0; t < rows; t++) {
      Row row = *reinterpret_cast<const Row*>(from + t * stride);
      *reinterpret_cast<Row*>(to + t * B) = row;
      if (sums) sum += row;
    }
    if (sums) *reinterpret_cast<Row*>(sums + c * B) += sum;
    std::memset(to + rows * B, 0, static_cast<size_t>(room - rows) * B * 4);
  }
  if (const long rest = columns - whole * B) {
    float* to = tiles + whole * room * B;
    std::memset(to, 0, static_cast<size_t>(room) * B * 4);
    for (long t = 0; t < rows; t++)
      for (long i = 0; i < rest; i++) {
        const float value = matrix[t * stride + whole * B + i];
        to[t * B + i] = value;
        if (sums) sums[whole * B + i] += value;
      }
  }
}

// The block of `values` with inputs and outputs as `multiply` wants them: step[i / kPack][j][i % kPack], where
// j counts the elements along a vector and i those that are summed over.
template <int B, bool kTranspose>
INLINE void arrange(const float* block, float* steps) {
  constexpr int kPack = Layout<B>::kPack;
  for (int i = 0; i < B; i++)
    for (int j = 0; j < B; j++)
      steps[((i / kPack) * B + j) * kPack + i % kPack] = kTranspose ? block[j * B + i] : block[i * B + j];
}

// The inverse of `arrange` with i the output and j the input.
template <int B>
INLINE void restore(const float* steps, float* block) {
  constexpr int kPack = Layout<B>::kPack;
  for (int i = 0; i < B; i++)
    for (int j = 0; j < B; j++) block[i * B + j] = steps[((i / kPack) * B + j) * kPack + i % kPack];
}

// R tokens x one row of blocks, all of whose products stay in registers.
//
// tiles: at the first of the tokens; steps: the row's blocks as `arrange` leaves them; first: the vector, of those
// over the outputs, to begin with; add: what is added to token r, at add + r * add_stride.
template <int B, int R>
INLINE void multiply_tokens(const float* tiles, long room, const int32_t* columns, const float* steps, int blocks,
                            int first, const float* add, long add_stride, float* out, long stride) {
  using L = Layout<B>;
  constexpr int kVectors = L::kVectors;
  Vector sum[R][kVectors];
  for (int r = 0; r < R; r++)
    for (int v = 0; v < kVectors; v++) sum[r][v] = Vector{};
  for (int b = 0; b < blocks; b++) {
    const float* x = tiles + static_cast<long>(columns[b]) * room * B;
    const float* w = steps + static_cast<long>(b) * B * B + first * kLanes;
#pragma GCC unroll 4
    for (int s = 0; s < L::kSteps; s++) {
      Vector weights[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v++) weights[v] = load(w + s * L::kRow + v * kLanes);
#pragma GCC unroll 24
      for (int r = 0; r < R; r++) {
        const Vector value = spread<L::kPack>(x + r * B + s * L::kPack);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; v++) sum[r][v] += value * weights[v];
      }
    }
  }
#pragma GCC unroll 24
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) {
      const float* plus = add + r * add_stride + (first + v) * kLanes;
      float* to = out + r * stride + (first + v) * kLanes;
      if constexpr (L::kPack == 1) {
        store(to, load(plus) + sum[r][v]);
      } else {
        typedef typename L::Row Row;
        const Row total = fold<B>(sum[r][v]) + *reinterpret_cast<const Row*>(plus);
        *reinterpret_cast<Row*>(to) = total;
      }
    }
}

// A block-sparse matrix by rows: row r has the blocks rows[r] ... rows[r + 1] - 1, block b lies in column columns[b].
struct Blocks {
  const int32_t* rows;
  const int32_t* columns;
};

// out (tokens, outputs) = tiles x blocks' + add, for one panel.
//
// add: (outputs rounded up to blocks); tokens <= room, which is a multiple of kTokens.
template <int B>
void multiply(const float* tiles, long room, long tokens, Blocks blocks, const float* steps, const float* add,
              long outputs, float* out, long stride) {
  using L = Layout<B>;
  constexpr int R = L::kTokens;
  constexpr int kChunk = 4096 / (B * B);  // blocks whose 16 KB stay in the first-level cache
  alignas(64) float edge[R * B];
  for (long row = 0; row < ceil_div(outputs, B); row++) {
    const long wide = min(B, outputs - row * B);
    int begin = blocks.rows[row];
    do {
      const int end = blocks.rows[row + 1] - begin > kChunk ? begin + kChunk : blocks.rows[row + 1];
      const bool more = begin > blocks.rows[row];
      for (long t = 0; t < tokens; t += R) {
        float* to = out + t * stride + row * B;
        const long deep = min(R, tokens - t);
        const bool whole = wide == B && deep == R;
        const float* plus = more ? to : add + row * B;
        long plus_stride = more ? stride : 0;
        if (!whole && more) {
          for (long r = 0; r < deep; r++) std::memcpy(edge + r * B, to + r * stride, static_cast<size_t>(wide) * 4);
          plus = edge, plus_stride = B;
        }
        for (int first = 0; first < L::kWide; first += L::kVectors)
          multiply_tokens<B, R>(tiles + t * B, room, blocks.columns + begin, steps + static_cast<long>(begin) * B * B,
                                end - begin, first, plus, plus_stride, whole ? to : edge, whole ? stride : B);
        if (!whole)
          for (long r = 0; r < deep; r++) std::memcpy(to + r * stride, edge + r * B, static_cast<size_t>(wide) * 4);
      }
      begin = end;
    } while (begin < blocks.rows[row + 1]);
  }
}

// How much of a row of blocks `gradient` keeps in registers: kBlocks neighbours x kSteps of their outputs.
template <int B>
struct Piece {
  static constexpr int kVectors = Layout<B>::kWide > 2 ? 2 : Layout<B>::kWide;
  static constexpr int kBlocks =
      kLanes == 16 ? (B == 4 ? 8 : B == 8 ? 6 : B == 16 ? 3 : 1) : B >= 16 ? 1 : B == 8 ? 12 / 4 / kVectors : 4;
  static constexpr int kSteps = kLanes == 16 ? (B == 4 ? 1 : B == 8 ? 4 : 8) : B >= 16 ? 6 : B == 8 ? 4 : 2;
};

// S outputs (from step `begin`) of N neighbouring blocks: their gradients, summed over the tokens, are added to
// `out`, which holds whole blocks as `arrange` lays them (i the output, j the input).
template <int B, int N, int S>
INLINE void gradient_piece(const float* x, long room, const int32_t* columns, const float* dy, long tokens, int first,
                           int begin, float* out) {
  using L = Layout<B>;
  constexpr int kVectors = Piece<B>::kVectors;
  const float* from[N];
  Vector sum[N][S][kVectors];
#pragma GCC unroll 8
  for (int n = 0; n < N; n++) {
    from[n] = x + static_cast<long>(columns[n]) * room * B + first * kLanes;
#pragma GCC unroll 16
    for (int s = 0; s < S; s++)
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; v++) sum[n][s][v] = Vector{};
  }
  const float* errors = dy + begin * L::kPack;
  for (long t = 0; t < tokens; t++) {
    Vector value[N][kVectors];
#pragma GCC unroll 8
    for (int n = 0; n < N; n++)
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; v++) value[n][v] = widen<B>(from[n] + t * B + v * kLanes);
#pragma GCC unroll 16
    for (int s = 0; s < S; s++) {
      const Vector error = spread<L::kPack>(errors + t * B + s * L::kPack);
#pragma GCC unroll 8
      for (int n = 0; n < N; n++)
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; v++) sum[n][s][v] += error * value[n][v];
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < N; n++)
#pragma GCC unroll 16
    for (int s = 0; s < S; s++)
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; v++) {
        float* to = out + static_cast<long>(n) * B * B + (begin + s) * L::kRow + (first + v) * kLanes;
        store(to, load(to) + sum[n][s][v]);
      }
}

template <int B, int N>
INLINE void gradient_blocks(const float* x, long room, const int32_t* columns, const float* dy, long tokens,
                            float* out) {
  using L = Layout<B>;
  constexpr int S = Piece<B>::kSteps, kRest = L::kSteps % S;
  for (int first = 0; first < L::kWide; first += Piece<B>::kVectors) {
    int s = 0;
    for (; s + S <= L::kSteps; s += S) gradient_piece<B, N, S>(x, room, columns, dy, tokens, first, s, out);
    if constexpr (kRest > 0) gradient_piece<B, N, kRest>(x, room, columns, dy, tokens, first, s, out);
  }
}

// Add the gradient of every living block, for one panel.
template <int B>
void gradient(const float* x, const float* dy, long room, long tokens, Blocks blocks, long block_rows, float* out) {
  constexpr int N = Piece<B>::kBlocks;
  for (long row = 0; row < block_rows; row++) {
    const float* errors = dy + row * room * B;
    int b = blocks.rows[row];
    const int end = blocks.rows[row + 1];
    for (; b + N <= end; b += N)
      gradient_blocks<B, N>(x, room, blocks.columns + b, errors, tokens, out + static_cast<long>(b) * B * B);
    for (; b < end; b++)
      gradient_blocks<B, 1>(x, room, blocks.columns + b, errors, tokens, out + static_cast<long>(b) * B * B);
  }
}

// Tokens of a panel: as many as let `width` floats per token lie in `budget` floats, a multiple of kTokens.
template <int B>
long panel_tokens(long width, long budget) {
  constexpr long R = Layout<B>::kTokens;
  const long fit = budget / width / R * R;
  return fit < R ? R : fit > 96 ? 96 : fit;
}

template <int B>
void forward(const float* x, long x_stride, long tokens, long inputs, long outputs, Blocks blocks, const float* values,
             const float* bias, float* y, long y_stride, int threads) {
  const long columns = ceil_div(inputs, B), rows = ceil_div(outputs, B), living = blocks.rows[rows];
  Buffer steps(living * B * B), add(rows * B);
  for (long b = 0; b < living; b++) arrange<B, true>(values + b * B * B, steps.get() + b * B * B);
  std::memset(add.get(), 0, static_cast<size_t>(rows) * B * 4);
  if (bias) std::memcpy(add.get(), bias, static_cast<size_t>(outputs) * 4);
  const long room = panel_tokens<B>(columns * B, kPanel), panels = ceil_div(tokens, room);
  Buffer all_tiles(columns * room * B * threads);
  parallel(threads, [&](int part) {
    float* tiles = all_tiles.get() + columns * room * B * part;
    for (long p = panels * part / threads; p < panels * (part + 1) / threads; p++) {
      const long begin = p * room, deep = min(room, tokens - begin);
      pack<B>(x + begin * x_stride, x_stride, deep, inputs, room, tiles, nullptr);
      multiply<B>(tiles, room, deep, blocks, steps.get(), add.get(), outputs, y + begin * y_stride, y_stride);
    }
  });
}

// One pass over the tokens gives all gradients that are wanted (the pointers that are not null).
//
// back: the blocks by columns of blocks; order: for each of them its place in `values`.
template <int B>
void backward(const float* x, long x_stride, const float* dy, long dy_stride, long tokens, long inputs, long outputs,
              Blocks blocks, Blocks back, const int32_t* order, const float* values, float* dx, float* dvalues,
              float* dbias, int threads) {
  const long columns = ceil_div(inputs, B), rows = ceil_div(outputs, B), size = blocks.rows[rows] * (B * B);
  Buffer steps(dx ? size : 0), none(columns * B), sums(rows * B * threads), grads(dvalues ? size * threads : 0);
  if (dx)
    for (long b = 0; b < size / (B * B); b++)
      arrange<B, false>(values + static_cast<long>(order[b]) * B * B, steps.get() + b * B * B);
  std::memset(none.get(), 0, static_cast<size_t>(columns) * B * 4);
  const long room = panel_tokens<B>(((dvalues ? columns : 0) + rows) * B, kBackPanel), panels = ceil_div(tokens, room);
  const long x_size = dvalues ? columns * room * B : 0, dy_size = rows * room * B;
  Buffer all_x(x_size * threads), all_dy(dy_size * threads);
  parallel(threads, [&](int part) {
    float *x_tiles = all_x.get() + x_size * part, *dy_tiles = all_dy.get() + dy_size * part;
    float* sum = sums.get() + rows * B * part;
    float* grad = grads.get() + size * part;
    std::memset(sum, 0, static_cast<size_t>(rows) * B * 4);
    if (dvalues) std::memset(grad, 0, static_cast<size_t>(size) * 4);
    for (long p = panels * part / threads; p < panels * (part + 1) / threads; p++) {
      const long begin = p * room, deep = min(room, tokens - begin);
      pack<B>(dy + begin * dy_stride, dy_stride, deep, outputs, room, dy_tiles, dbias ? sum : nullptr);
      if (dx)
        multiply<B>(dy_tiles, room, deep, back, steps.get(), none.get(), inputs, dx + begin * inputs, inputs);
      if (dvalues) {
        pack<B>(x + begin * x_stride, x_stride, deep, inputs, room, x_tiles, nullptr);
        gradient<B>(x_tiles, dy_tiles, room, deep, blocks, rows, grad);
      }
    }
  });
  add_parts(sums.get(), rows * B, threads);
  if (dbias) std::memcpy(dbias, sums.get(), static_cast<size_t>(outputs) * 4);
  add_parts(grads.get(), dvalues ? size : 0, threads);
  for (long i = 0; dvalues && i < size; i += B * B) restore<B>(grads.get() + i, dvalues + i);
}

// ---------------------------------------------------------------------------------------------------------
// Unstructured

// Tokens of a panel, all of one row's sums in registers; columns of a tile, which stays in the first-level cache.
// The tile is part of the order of the weights, so it is the same for every instruction set.
constexpr int kVectorsUp = kLanes == 16 ? 8 : 12, kUp = kVectorsUp * kLanes, kTile = 64;
// Rows of the output that are kept in the second-level cache before they are turned back.
constexpr long kRows = 256;

// Lane n: the sum over the lanes of a[n], where the vector has a lane for each of the N; else partial sums of it.
template <int N>
INLINE Vector sums(const Vector* a) {
  if constexpr (N == 1) {
    return a[0];
  } else {
    const Vector low = sums<N / 2>(a), high = sums<N / 2>(a + N / 2);
    return every_second<0>(low, high) + every_second<1>(low, high);
  }
}

// Turn kLanes x kLanes floats.
INLINE void turn(const float* from, long from_stride, float* to, long to_stride) {
  Vector v[kLanes], w[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; i++) v[i] = load(from + i * from_stride);
#pragma GCC unroll 4
  for (int round = 1; round < kLanes; round *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes / 2; i++) {
      w[i] = every_second<0>(v[2 * i], v[2 * i + 1]);
      w[i + kLanes / 2] = every_second<1>(v[2 * i], v[2 * i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; i++) v[i] = w[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; i++) store(to + i * to_stride, v[i]);
}

// Turn rows x columns floats of any number.
void transpose(const float* from, long from_stride, long rows, long columns, float* to, long to_stride) {
  const long even_rows = rows / kLanes * kLanes, even_columns = columns / kLanes * kLanes;
  for (long c = 0; c < even_columns; c += kLanes)
    for (long r = 0; r < even_rows; r += kLanes) turn(from + r * from_stride + c, from_stride, to + c * to_stride + r, to_stride);
  for (long r = 0; r < rows; r++)
    for (long c = r < even_rows ? even_columns : 0; c < columns; c++) to[c * to_stride + r] = from[r * from_stride + c];
}

// A matrix by tiles of kTile columns: of tile k and row r the weights starts[k * (rows + 1) + r] ... - 1, each with
// its column within the tile.
struct Tiles {
  const int32_t* starts;
  const uint8_t* columns;
};

// up (columns, kUp): a panel with the tokens side by side.  Writes (tokens, outputs) to `out`.
void multiply_up(const float* up, long inputs, long tokens, Tiles tiles, const float* weights, const float* add,
                 long outputs, float* rows_up, float* out, long stride) {
  const long count = ceil_div(inputs, kTile);
  for (long begin = 0; begin < outputs; begin += kRows) {
    const long end = min(begin + kRows, outputs);
    for (long k = 0; k < count; k++) {
      const float* tile = up + k * kTile * kUp;
      const int32_t* starts = tiles.starts + k * (outputs + 1);
      for (long row = begin; row < end; row++) {
        float* y = rows_up + (row - begin) * kUp;
        Vector sum[kVectorsUp];
        if (k) {
          for (int v = 0; v < kVectorsUp; v++) sum[v] = load(y + v * kLanes);
        } else {
          for (int v = 0; v < kVectorsUp; v++) sum[v] = (add ? add[row] : 0.0f) - Vector{};
        }
        for (int32_t i = starts[row]; i < starts[row + 1]; i++) {
          const float* x = tile + static_cast<long>(tiles.columns[i]) * kUp;
          const Vector weight = weights[i] - Vector{};
#pragma GCC unroll 12
          for (int v = 0; v < kVectorsUp; v++) sum[v] += weight * load(x + v * kLanes);
        }
        for (int v = 0; v < kVectorsUp; v++) store(y + v * kLanes, sum[v]);
      }
    }
    transpose(rows_up, kUp, end - begin, tokens, out + begin, stride);
  }
}

// Add the gradient of every weight, summed over a panel whose tokens beyond the last are zero.
void gradient_up(const float* x, long inputs, const float* dy, Tiles tiles, long outputs, float* grad) {
  constexpr int N = kLanes < 8 ? kLanes : 8;
  const long count = ceil_div(inputs, kTile);
  for (long k = 0; k < count; k++) {
    const float* tile = x + k * kTile * kUp;
    const int32_t* starts = tiles.starts + k * (outputs + 1);
    for (long row = 0; row < outputs; row++) {
      const float* error = dy + row * kUp;
      for (int32_t i = starts[row], end = starts[row + 1]; i < end; i += N) {
        Vector sum[N] = {};
        for (int half = 0; half < kUp; half += kUp / 2) {
          Vector e[kVectorsUp / 2];
#pragma GCC unroll 6
          for (int v = 0; v < kVectorsUp / 2; v++) e[v] = load(error + half + v * kLanes);
#pragma GCC unroll 8
          for (int n = 0; n < N; n++) {
            // Past the end the last weight is computed again, and dropped.
            const float* x = tile + half + static_cast<long>(tiles.columns[min(i + n, end - 1)]) * kUp;
#pragma GCC unroll 6
            for (int v = 0; v < kVectorsUp / 2; v++) sum[n] += e[v] * load(x + v * kLanes);
          }
        }
        const Vector total = sums<N>(sum);
        if (kLanes == N && i + N <= end) {
          store(grad + i, load(grad + i) + total);
        } else {
          for (int n = 0; n < min(N, end - i); n++)
            for (int lane = 0; lane < kLanes / N; lane++) grad[i + n] += total[n * (kLanes / N) + lane];
        }
      }
    }
  }
}

// Turn a panel, zeros after the last token.
void panel_up(const float* matrix, long stride, long tokens, long width, float* up) {
  if (tokens < kUp) std::memset(up, 0, static_cast<size_t>(width) * kUp * 4);
  transpose(matrix, stride, tokens, width, up, kUp);
}

void forward_up(const float* x, long x_stride, long tokens, long inputs, long outputs, Tiles tiles,
                const float* values, const float* bias, float* y, long y_stride, int threads) {
  const long panels = ceil_div(tokens, kUp);
  const long size = (inputs + kRows) * kUp;
  Buffer scratch(size * threads);
  parallel(threads, [&](int part) {
    float* up = scratch.get() + size * part;
    for (long p = panels * part / threads; p < panels * (part + 1) / threads; p++) {
      const long begin = p * kUp, deep = min(kUp, tokens - begin);
      panel_up(x + begin * x_stride, x_stride, deep, inputs, up);
      multiply_up(up, inputs, deep, tiles, values, bias, outputs, up + inputs * kUp, y + begin * y_stride, y_stride);
    }
  });
}

// back: the tiles of the transposed matrix; order: for each of their weights its place in `values`.
void backward_up(const float* x, long x_stride, const float* dy, long dy_stride, long tokens, long inputs, long outputs,
                 Tiles tiles, Tiles back, const int32_t* order, const float* values,
                 float* dx, float* dvalues, float* dbias, int threads) {
  const long living = tiles.starts[ceil_div(inputs, kTile) * (outputs + 1) - 1], panels = ceil_div(tokens, kUp);
  const long size = (inputs + outputs + kRows) * kUp;
  Buffer weights(dx ? living : 0), scratch(size * threads), grads(living * threads), biases(outputs * threads);
  for (long i = 0; dx && i < living; i++) weights.get()[i] = values[order[i]];
  std::memset(grads.get(), 0, static_cast<size_t>(living * threads) * 4);
  std::memset(biases.get(), 0, static_cast<size_t>(outputs * threads) * 4);
  parallel(threads, [&](int part) {
    float *x_up = scratch.get() + size * part, *dy_up = x_up + inputs * kUp, *rows_up = dy_up + outputs * kUp;
    for (long p = panels * part / threads; p < panels * (part + 1) / threads; p++) {
      const long begin = p * kUp, deep = min(kUp, tokens - begin);
      panel_up(dy + begin * dy_stride, dy_stride, deep, outputs, dy_up);
      for (long row = 0; dbias && row < outputs; row++) {
        Vector sum = {};
        for (int v = 0; v < kUp; v += kLanes) sum += load(dy_up + row * kUp + v);
        for (int lane = 0; lane < kLanes; lane++) biases.get()[outputs * part + row] += sum[lane];
      }
      if (dx)
        multiply_up(dy_up, outputs, deep, back, weights.get(), nullptr, inputs, rows_up, dx + begin * inputs, inputs);
      if (dvalues) {
        panel_up(x + begin * x_stride, x_stride, deep, inputs, x_up);
        gradient_up(x_up, inputs, dy_up, tiles, outputs, grads.get() + living * part);
      }
    }
  });
  add_parts(biases.get(), outputs, threads);
  if (dbias) std::memcpy(dbias, biases.get(), static_cast<size_t>(outputs) * 4);
  add_parts(grads.get(), living, threads);
  if (dvalues) std::memcpy(dvalues, grads.get(), static_cast<size_t>(living) * 4);
}
}  // namespace

// ---------------------------------------------------------------------------------------------------------
// What the loader calls.  Every function returns 0, 1 for an unknown block, 2 when memory is short.

#define FOR_BLOCK(block, call)                 \
  try {                                        \
    switch (block) {                           \
      case 4: call(4); break;                  \
      case 8: call(8); break;                  \
      case 16: call(16); break;                \
      case 32: call(32); break;                \
      default: return 1;                       \
    }                                          \
  } catch (const std::bad_alloc&) {            \
    return 2;                                  \
  }                                            \
  return 0

extern "C" {

int wellread_lanes() { return kLanes; }

int wellread_block_forward(int block, const float* x, long x_stride, long tokens, long inputs, long outputs,
                           const int32_t* rows, const int32_t* columns, const float* values, const float* bias,
                           float* y, long y_stride, int threads) {
#define CALL(B) \
  forward<B>(x, x_stride, tokens, inputs, outputs, {rows, columns}, values, bias, y, y_stride, threads)
  FOR_BLOCK(block, CALL);
#undef CALL
}

int wellread_block_backward(int block, const float* x, long x_stride, const float* dy, long dy_stride, long tokens,
                            long inputs, long outputs, const int32_t* rows, const int32_t* columns,
                            const int32_t* back_rows, const int32_t* back_columns, const int32_t* order,
                            const float* values, float* dx, float* dvalues, float* dbias, int threads) {
#define CALL(B)                                                                                               \
  backward<B>(x, x_stride, dy, dy_stride, tokens, inputs, outputs, {rows, columns}, {back_rows, back_columns}, \
              order, values, dx, dvalues, dbias, threads)
  FOR_BLOCK(block, CALL);
#undef CALL
}

int wellread_unstructured_forward(const float* x, long x_stride, long tokens, long inputs, long outputs,
                                  const int32_t* starts, const uint8_t* columns, const float* values,
                                  const float* bias, float* y, long y_stride, int threads) {
  try {
    forward_up(x, x_stride, tokens, inputs, outputs, {starts, columns}, values, bias, y, y_stride, threads);
  } catch (const std::bad_alloc&) {
    return 2;
  }
  return 0;
}

int wellread_unstructured_backward(const float* x, long x_stride, const float* dy, long dy_stride, long tokens,
                                   long inputs, long outputs, const int32_t* starts, const uint8_t* columns,
                                   const int32_t* back_starts, const uint8_t* back_columns, const int32_t* order,
                                   const float* values, float* dx, float* dvalues, float* dbias, int threads) {
  try {
    backward_up(x, x_stride, dy, dy_stride, tokens, inputs, outputs, {starts, columns}, {back_starts, back_columns},
                order, values, dx, dvalues, dbias, threads);
  } catch (const std::bad_alloc&) {
    return 2;
  }
  return 0;
}

}  // extern "C"

// Linear layers with a block-sparse or an unstructured weight: forward, and backward in one pass.
//
// One source for every instruction set.  Vectors are GCC/Clang vector types as wide as the target's registers
// (vector.h), so there are no intrinsics to read: the build compiles this file once for AVX-512 with bfloat16, once
// for AVX-512, once for AVX2 and once for the plain target, and the loader takes the best that the machine has.  All
// sums are fp32, with fused multiply-add where the target has it; never build it with -ffast-math (it would flush
// denormals to zero in the whole process).
//
// y = x W' + b with x (tokens, inputs), W (outputs, inputs), y (tokens, outputs), all row-major.
//
// Blocks.  W is cut into B x B blocks, of which a few live.  `values` holds the living ones, row of blocks by row
// of blocks, each as (output, input).  Tokens are taken in panels that fit the second-level cache.  For a product a
// panel is turned, so that every weight multiplies a vector of tokens: R outputs x 3 vectors stay in registers, which
// takes 3 + R loads for 3 R multiply-adds whatever the size of the block.  The results are turned back on their way to
// memory.  For the gradient of the weights a panel is copied to tiles, tile[c][token][B]; a piece of a block stays in
// registers, summed over the tokens.  Both copies are also where borders are padded with zeros; the second sums
// the gradient of the bias.
//
// The same loops multiply floats and bfloat16.  They move words of 32 bits, of which kPer = 1 float or kPer = 2
// neighbours of bfloat16 fit one: neighbours along what is summed over, inputs for a product, tokens for the gradient of
// the weights.  A panel of bfloat16 is turned word by word as if it were floats; its tiles are woven of two tokens.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "pool.h"
#include "vector.h"

namespace {

// Floats of a panel that are to lie in the second-level cache, forward and backward.
constexpr long kPanel = 1 << 16, kBackPanel = 1 << 17;

typedef int64_t Longs __attribute__((vector_size(kLanes * 4), may_alias));

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

// A row-major matrix of words that is written once, in pieces of whole lines of the cache.
struct Result {
  float* data;
  long stride;
  bool streams;  // too large to stay in the caches until it is read, and aligned

  Result(float* data, long stride, long rows, long columns)
      : data(data),
        stride(stride),
        streams(worth_streaming(data, stride, rows * columns)) {}

  Result from(long row) const {
    Result rest = *this;
    rest.data += row * stride;
    return rest;
  }

  // turned (columns, room): what belongs to `rows` rows from `row` on, `columns` columns from `column` on.
  void put(const float* turned, long room, long row, long rows, long column, long columns) const {
    float* to = data + row * stride + column;
    if (streams)
      transpose<true>(turned, room, columns, rows, to, stride);
    else
      transpose<false>(turned, room, columns, rows, to, stride);
  }
};

// ---------------------------------------------------------------------------------------------------------
// Blocks

// How `gradient` lays a row of blocks over vectors.  Where a block is narrower than a vector, a vector holds B inputs
// x kPack neighbouring outputs.
template <int B>
struct Layout {
  static constexpr int kPack = B < kLanes ? kLanes / B : 1;  // outputs side by side in a vector
  static constexpr int kSteps = B / kPack;                   // steps over the outputs of a block
  static constexpr int kWide = B < kLanes ? 1 : B / kLanes;  // vectors over the inputs
  static constexpr int kRow = B * kPack;                     // floats in a step
  typedef float Row __attribute__((vector_size(B * 4), aligned(4), may_alias));
  typedef uint32_t WordRow __attribute__((vector_size(B * 4), aligned(4), may_alias));
  typedef uint16_t HalfRow __attribute__((vector_size(B * 2), aligned(2), may_alias));
};

// How many elements fit a word.
template <class Element>
constexpr int kPer = sizeof(float) / sizeof(Element);

// kPack neighbouring words, repeated over a vector; more than two reads a whole vector.
template <int kPack>
INLINE Vector spread(const float* p) {
  if constexpr (kPack == 1) {
    return everywhere(p);
  } else if constexpr (kPack == 2) {
    int64_t pair;
    std::memcpy(&pair, p, sizeof pair);
    return (Vector)(pair - Longs{});
  } else {
    return cycle<kPack>(load(p), std::make_integer_sequence<int, kLanes>());
  }
}

// A vector of B words, each repeated kPack times; reads a whole vector.
template <int B>
INLINE Vector widen(const float* p) {
  if constexpr (B >= kLanes) {
    return load(p);
  } else {
    return repeat<Layout<B>::kPack>(load(p), std::make_integer_sequence<int, kLanes>());
  }
}

// B elements of a row, and of the next one where two fit a word, as B words; `sum`, if any, grows by all of them.
template <int B>
INLINE void weave(const float* row, const float*, float* to, typename Layout<B>::Row* sum) {
  typedef typename Layout<B>::Row Floats;
  const Floats words = *reinterpret_cast<const Floats*>(row);
  *reinterpret_cast<Floats*>(to) = words;
  if (sum) *sum += words;
}

template <int B>
INLINE void weave(const Half* row, const Half* next, float* to, typename Layout<B>::Row* sum) {
  typedef typename Layout<B>::Row Floats;
  typedef typename Layout<B>::WordRow Words;
  typedef typename Layout<B>::HalfRow Halves;
  const Words low = __builtin_convertvector(*reinterpret_cast<const Halves*>(row), Words);
  Words high = {};
  if (next) high = __builtin_convertvector(*reinterpret_cast<const Halves*>(next), Words) << 16;
  *reinterpret_cast<Words*>(to) = low | high;
  if (sum) *sum += (Floats)(low << 16) + (Floats)high;
}

// Copy a panel of a row-major matrix to tiles: tile[c][token][B] of words, zeros outside the matrix.  A word of
// bfloat16 holds the same column of two tokens.
//
// rows x columns is what there is of the panel, `room` the tokens of a tile, even.  With `sums`, the sum of every
// column is added to it.
template <int B, class Element>
void pack(const Element* matrix, long stride, long rows, long columns, long room, float* tiles, float* sums) {
  constexpr int P = kPer<Element>;
  const long whole = columns / B, size = room / P * B;
  for (long c = 0; c < whole; c++) {
    const Element* from = matrix + c * B;
    float* to = tiles + c * size;
    typedef typename Layout<B>::Row Row;
    Row sum = {};
    for (long t = 0; t < rows; t += P)
      weave<B>(from + t * stride, t + 1 < rows ? from + (t + 1) * stride : nullptr, to + t / P * B,
               sums ? &sum : nullptr);
    if (sums) *reinterpret_cast<Row*>(sums + c * B) += sum;
    const long used = ceil_div(rows, P) * B;
    std::memset(to + used, 0, static_cast<size_t>(size - used) * 4);
  }
  if (const long rest = columns - whole * B) {
    float* to = tiles + whole * size;
    std::memset(to, 0, static_cast<size_t>(size) * 4);
    Element* elements = reinterpret_cast<Element*>(to);
    for (long t = 0; t < rows; t++)
      for (long i = 0; i < rest; i++) {
        const Element value = matrix[t * stride + whole * B + i];
        elements[(t / P * B + i) * P + t % P] = value;
        if (sums) sums[whole * B + i] += widened(value);
      }
  }
}

// A block's gradient as `gradient` leaves it, step[output / kPack][input][output % kPack], to (output, input).
template <int B>
INLINE void restore(const float* steps, float* block) {
  constexpr int kPack = Layout<B>::kPack;
  for (int i = 0; i < B; i++)
    for (int j = 0; j < B; j++) block[i * B + j] = steps[((i / kPack) * B + j) * kPack + i % kPack];
}

// A block-sparse matrix by rows: row r has the blocks rows[r] ... rows[r + 1] - 1, block b lies in column columns[b].
struct Blocks {
  const int32_t* rows;
  const int32_t* columns;
};

// `multiply` keeps kRows outputs x kAcross vectors of tokens in registers.  A panel is cut into groups of kGroup
// tokens and turned, up[group][input][token], so that every weight multiplies a whole vector.
constexpr int kAcross = 3, kGroup = kAcross * kLanes;

template <int B>
struct Strip {
  static constexpr int kHigh = kLanes == 16 ? 8 : 4;
  static constexpr int kRows = B < kHigh ? B : kHigh;
  static constexpr int kOutputs = B < 64 ? 64 : B;  // as many as are turned back at a time
};

// The weights of a block as `multiply_rows` wants them: words [row / kRows][input / kPer][row % kRows].
template <int B, bool kTranspose, class Element>
INLINE void arrange_rows(const Element* block, float* weights) {
  constexpr int R = Strip<B>::kRows, P = kPer<Element>;
  Element* elements = reinterpret_cast<Element*>(weights);
  for (int r = 0; r < B; r++)
    for (int i = 0; i < B; i++)
      elements[((r / R * (B / P) + i / P) * R + r % R) * P + i % P] = kTranspose ? block[i * B + r] : block[r * B + i];
}

// kRows outputs of a row of blocks x kGroup tokens, as words.
//
// up: the group; weights: the rows' part of the first block; add: what every token's sum begins with.
template <int B, int P>
INLINE void multiply_rows(const float* up, const int32_t* columns, const float* weights, int blocks, const float* add,
                          float* out) {
  constexpr int R = Strip<B>::kRows;
  Vector sum[R][kAcross];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 3
    for (int v = 0; v < kAcross; v++) sum[r][v] = add[r] - Vector{};
  for (int b = 0; b < blocks; b++) {
    const float* x = up + static_cast<long>(columns[b]) * (B / P) * kGroup;
    const float* w = weights + static_cast<long>(b) * (B * B / P);
#pragma GCC unroll 4
    for (int i = 0; i < B / P; i++) {
      Vector value[kAcross];
#pragma GCC unroll 3
      for (int v = 0; v < kAcross; v++) value[v] = load(x + i * kGroup + v * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < R; r++) {
        const Vector weight = everywhere(w + i * R + r);
#pragma GCC unroll 3
        for (int v = 0; v < kAcross; v++) sum[r][v] = multiply_add<P>(sum[r][v], weight, value[v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r += P)
#pragma GCC unroll 3
    for (int v = 0; v < kAcross; v++)
      store(out + r / P * kGroup + v * kLanes, P == 1 ? sum[r][v] : paired(sum[r][v], sum[r + P - 1][v]));
}

// Turn a panel of a row-major matrix into words up[group][column / kPer][token], zeros outside the matrix.  The width and
// the stride are whole words.
template <int B, class Element>
void raise(const Element* matrix, long stride, long tokens, long width, float* up) {
  constexpr int P = kPer<Element>;
  const float* words = reinterpret_cast<const float*>(matrix);
  const long room = ceil_div(width, B) * B / P, used = width / P;
  for (long t = 0; t < tokens; t += kGroup, up += room * kGroup) {
    const long deep = min(kGroup, tokens - t);
    if (deep < kGroup)
      std::memset(up, 0, static_cast<size_t>(room) * kGroup * 4);
    else
      std::memset(up + used * kGroup, 0, static_cast<size_t>(room - used) * kGroup * 4);
    transpose<false>(words + t * (stride / P), stride / P, deep, used, up, kGroup);
  }
}

// out (tokens, outputs) = up x blocks' + add, for one panel.
//
// weights: as `arrange_rows` leaves them; add: (outputs rounded up to blocks).
template <int B, int P>
void multiply(const float* up, long inputs, long tokens, Blocks blocks, const float* weights, const float* add,
              long outputs, Result out) {
  using S = Strip<B>;
  alignas(64) float sums[S::kOutputs / P * kGroup];
  const long rows = ceil_div(outputs, B), room = ceil_div(inputs, B) * B / P;
  for (long first = 0; first < outputs; first += S::kOutputs) {
    for (long t = 0; t < tokens; t += kGroup) {
      const float* group = up + t * room;
      for (long row = first / B; row < min(rows, (first + S::kOutputs) / B); row++) {
        const long begin = blocks.rows[row];
        for (int r = 0; r < B; r += S::kRows)
          multiply_rows<B, P>(group, blocks.columns + begin, weights + (begin * B + r) * (B / P),
                              static_cast<int>(blocks.rows[row + 1] - begin), add + row * B + r,
                              sums + (row * B - first + r) / P * kGroup);
      }
      out.put(sums, kGroup, t, min(kGroup, tokens - t), first / P, min(S::kOutputs, outputs - first) / P);
    }
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
// `out`, which holds whole blocks as `restore` takes them.  Here and below, tokens and room count words.
template <int B, int P, int N, int S>
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
        for (int v = 0; v < kVectors; v++) sum[n][s][v] = multiply_add<P>(sum[n][s][v], error, value[n][v]);
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

template <int B, int P, int N>
INLINE void gradient_blocks(const float* x, long room, const int32_t* columns, const float* dy, long tokens,
                            float* out) {
  using L = Layout<B>;
  constexpr int S = Piece<B>::kSteps, kRest = L::kSteps % S;
  for (int first = 0; first < L::kWide; first += Piece<B>::kVectors) {
    int s = 0;
    for (; s + S <= L::kSteps; s += S) gradient_piece<B, P, N, S>(x, room, columns, dy, tokens, first, s, out);
    if constexpr (kRest > 0) gradient_piece<B, P, N, kRest>(x, room, columns, dy, tokens, first, s, out);
  }
}

// Add the gradient of every living block, for one panel.
template <int B, int P>
void gradient(const float* x, const float* dy, long room, long tokens, Blocks blocks, long block_rows, float* out) {
  constexpr int N = Piece<B>::kBlocks;
  for (long row = 0; row < block_rows; row++) {
    const float* errors = dy + row * room * B;
    int b = blocks.rows[row];
    const int end = blocks.rows[row + 1];
    for (; b + N <= end; b += N)
      gradient_blocks<B, P, N>(x, room, blocks.columns + b, errors, tokens, out + static_cast<long>(b) * B * B);
    for (; b < end; b++)
      gradient_blocks<B, P, 1>(x, room, blocks.columns + b, errors, tokens, out + static_cast<long>(b) * B * B);
  }
}

// Tokens of a panel: as many as let `width` floats per token lie in `budget` floats, whole groups.
inline long panel_tokens(long width, long budget) {
  const long fit = budget / width / kGroup * kGroup;
  return fit < kGroup ? kGroup : fit > 96 ? 96 / kGroup * kGroup : fit;
}

template <int B, class Element>
void forward(const Element* x, long x_stride, long tokens, long inputs, long outputs, Blocks blocks,
             const Element* values, const float* bias, Element* y, long y_stride, int threads) {
  constexpr int P = kPer<Element>, kWords = B * B / P;
  const long columns = ceil_div(inputs, B), rows = ceil_div(outputs, B), living = blocks.rows[rows];
  Buffer weights(living * kWords), add(rows * B);
  for (long b = 0; b < living; b++) arrange_rows<B, false>(values + b * B * B, weights.get() + b * kWords);
  std::memset(add.get(), 0, static_cast<size_t>(rows) * B * 4);
  if (bias) std::memcpy(add.get(), bias, static_cast<size_t>(outputs) * 4);
  const long width = columns * B / P, room = panel_tokens(width, kPanel), panels = ceil_div(tokens, room);
  Buffer all_up(width * room * threads);
  const Result result(reinterpret_cast<float*>(y), y_stride / P, tokens, outputs / P);
  parallel(threads, [&](int part) {
    float* up = all_up.get() + width * room * part;
    for (long p = panels * part / threads; p < panels * (part + 1) / threads; p++) {
      const long begin = p * room, deep = min(room, tokens - begin);
      raise<B>(x + begin * x_stride, x_stride, deep, inputs, up);
      multiply<B, P>(up, inputs, deep, blocks, weights.get(), add.get(), outputs, result.from(begin));
    }
    finish_stream();
  });
}

// One pass over the tokens gives all gradients that are wanted (the pointers that are not null).
//
// back: the blocks by columns of blocks; order: for each of them its place in `values`.
template <int B, class Element>
void backward(const Element* x, long x_stride, const Element* dy, long dy_stride, long tokens, long inputs,
              long outputs, Blocks blocks, Blocks back, const int32_t* order, const Element* values, Element* dx,
              float* dvalues, float* dbias, int threads) {
  constexpr int P = kPer<Element>, kWords = B * B / P;
  const long columns = ceil_div(inputs, B), rows = ceil_div(outputs, B), living = blocks.rows[rows];
  const long size = living * B * B;
  Buffer weights(dx ? living * kWords : 0), none(columns * B), sums(rows * B * threads);
  Buffer grads(dvalues ? size * threads : 0);
  if (dx)
    for (long b = 0; b < living; b++)
      arrange_rows<B, true>(values + static_cast<long>(order[b]) * B * B, weights.get() + b * kWords);
  std::memset(none.get(), 0, static_cast<size_t>(columns) * B * 4);
  const long width = ((dvalues ? columns : 0) + rows) * B / P;
  const long room = panel_tokens(width, kBackPanel), panels = ceil_div(tokens, room);
  const long x_size = dvalues ? columns * B / P * room : 0, dy_size = rows * B / P * room, up_size = dx ? dy_size : 0;
  Buffer all_x(x_size * threads), all_dy(dy_size * threads), all_up(up_size * threads);
  const Result result(reinterpret_cast<float*>(dx), inputs / P, tokens, inputs / P);
  parallel(threads, [&](int part) {
    float *x_tiles = all_x.get() + x_size * part, *dy_tiles = all_dy.get() + dy_size * part;
    float* up = all_up.get() + up_size * part;
    float* sum = sums.get() + rows * B * part;
    float* grad = grads.get() + size * part;
    std::memset(sum, 0, static_cast<size_t>(rows) * B * 4);
    if (dvalues) std::memset(grad, 0, static_cast<size_t>(size) * 4);
    for (long p = panels * part / threads; p < panels * (part + 1) / threads; p++) {
      const long begin = p * room, deep = min(room, tokens - begin);
      if (dvalues || dbias)
        pack<B>(dy + begin * dy_stride, dy_stride, deep, outputs, room, dy_tiles, dbias ? sum : nullptr);
      if (dx) {
        raise<B>(dy + begin * dy_stride, dy_stride, deep, outputs, up);
        multiply<B, P>(up, outputs, deep, back, weights.get(), none.get(), inputs, result.from(begin));
      }
      if (dvalues) {
        pack<B>(x + begin * x_stride, x_stride, deep, inputs, room, x_tiles, nullptr);
        gradient<B, P>(x_tiles, dy_tiles, room / P, ceil_div(deep, P), blocks, rows, grad);
      }
    }
    finish_stream();
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

// A matrix by tiles of kTile columns: of tile k and row r the weights starts[k * (rows + 1) + r] ... - 1, each with
// its column within the tile.
struct Tiles {
  const int32_t* starts;
  const uint8_t* columns;
};

// up (columns, kUp): a panel with the tokens side by side.  Writes (tokens, outputs) to `out`.
void multiply_up(const float* up, long inputs, long tokens, Tiles tiles, const float* weights, const float* add,
                 long outputs, float* rows_up, Result out) {
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
    out.put(rows_up, kUp, 0, tokens, begin, end - begin);
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
  transpose<false>(matrix, stride, tokens, width, up, kUp);
}

void forward_up(const float* x, long x_stride, long tokens, long inputs, long outputs, Tiles tiles,
                const float* values, const float* bias, float* y, long y_stride, int threads) {
  const long panels = ceil_div(tokens, kUp);
  const long size = (inputs + kRows) * kUp;
  Buffer scratch(size * threads);
  const Result result(y, y_stride, tokens, outputs);
  parallel(threads, [&](int part) {
    float* up = scratch.get() + size * part;
    for (long p = panels * part / threads; p < panels * (part + 1) / threads; p++) {
      const long begin = p * kUp, deep = min(kUp, tokens - begin);
      panel_up(x + begin * x_stride, x_stride, deep, inputs, up);
      multiply_up(up, inputs, deep, tiles, values, bias, outputs, up + inputs * kUp, result.from(begin));
    }
    finish_stream();
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
  const Result result(dx, inputs, tokens, inputs);
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
        multiply_up(dy_up, outputs, deep, back, weights.get(), nullptr, inputs, rows_up, result.from(begin));
      if (dvalues) {
        panel_up(x + begin * x_stride, x_stride, deep, inputs, x_up);
        gradient_up(x_up, inputs, dy_up, tiles, outputs, grads.get() + living * part);
      }
    }
    finish_stream();
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
      case 64: call(64); break;                \
      case 128: call(128); break;              \
      default: return 1;                       \
    }                                          \
  } catch (const std::bad_alloc&) {            \
    return 2;                                  \
  }                                            \
  return 0

extern "C" {

int wellread_lanes() { return kLanes; }

// Whether bfloat16 is multiplied by instructions of its own.
int wellread_fast_bf16() {
#if defined(__AVX512BF16__)
  return 1;
#else
  return 0;
#endif
}

// With `halves` x, values and y (dy and dx) are bfloat16, else floats; inputs, outputs and strides are then even.
int wellread_block_forward(int block, int halves, const void* x, long x_stride, long tokens, long inputs, long outputs,
                           const int32_t* rows, const int32_t* columns, const void* values, const float* bias,
                           void* y, long y_stride, int threads) {
#define TYPED(B, E)                                                                           \
  forward<B>((const E*)x, x_stride, tokens, inputs, outputs, {rows, columns}, (const E*)values, bias, (E*)y, y_stride, \
             threads)
#define CALL(B) halves ? TYPED(B, Half) : TYPED(B, float)
  FOR_BLOCK(block, CALL);
#undef CALL
#undef TYPED
}

int wellread_block_backward(int block, int halves, const void* x, long x_stride, const void* dy, long dy_stride,
                            long tokens, long inputs, long outputs, const int32_t* rows, const int32_t* columns,
                            const int32_t* back_rows, const int32_t* back_columns, const int32_t* order,
                            const void* values, void* dx, float* dvalues, float* dbias, int threads) {
#define TYPED(B, E)                                                                                     \
  backward<B>((const E*)x, x_stride, (const E*)dy, dy_stride, tokens, inputs, outputs, {rows, columns}, \
              {back_rows, back_columns}, order, (const E*)values, (E*)dx, dvalues, dbias, threads)
#define CALL(B) halves ? TYPED(B, Half) : TYPED(B, float)
  FOR_BLOCK(block, CALL);
#undef CALL
#undef TYPED
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

// Softmax attention over packed sequences, forward and backward, in float32.
//
// q (T, H, D), k and v (T, G, D), where H is a multiple of G; sequence s has the tokens starts[s] ... starts[s + 1] - 1
// and attends to itself, within `distance` places on either side (all, if negative) and not ahead if `causal`.
//
// One task is a sequence and a head of the keys, done by one thread in a fixed order: the bits do not depend on the
// number of threads.  Queries go in blocks of kGroup rows.  Keys and values are turned once for a task, group by
// group, [group][d][kGroup keys], so that scores are sums of a broadcast query times a vector of keys; R queries x 3
// vectors of keys stay in registers.  Only the groups of keys that a block of queries can see are touched, so that
// local attention costs as much as its window.  The way back works the probabilities out again from the saved
// log-sums (Dao et al., arXiv 2205.14135), and the dropped ones from the seed.

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "pool.h"
#include "random.h"
#include "vector.h"

namespace {

constexpr int kAcross = 3, kGroup = kAcross * kLanes;
constexpr int kRows = kLanes == 16 ? 8 : 4;    // queries of a score kernel; divides kGroup
constexpr int kFew = 4;                        // rows of the other kernels
constexpr int kChunk = kLanes == 16 ? 4 : 2;   // vectors along a head that they keep
constexpr float kNever = -1e30f;

struct Shape {
  long heads, key_heads, size, distance;
  bool causal;
  float scale;
  long width() const { return ceil_div(size, kChunk * kLanes) * kChunk * kLanes; }  // of a head in copies
};

// Hands out parts of one array.
struct Parts {
  float* next;
  float* take(long floats) {
    float* taken = next;
    next += ceil_div(floats, 16) * 16;
    return taken;
  }
};

// Rows of a head to rows of `width` floats, zeros beyond.
void copy_rows(const float* from, long stride, long rows, long size, long width, float* to) {
  for (long r = 0; r < rows; r++) {
    std::memcpy(to + r * width, from + r * stride, static_cast<size_t>(size) * 4);
    std::memset(to + r * width + size, 0, static_cast<size_t>(width - size) * 4);
  }
}

// Rows of a head to [group][d][kGroup], zeros beyond the last row.
void turn_rows(const float* from, long stride, long rows, long size, float* to) {
  for (long first = 0; first < rows; first += kGroup, to += size * kGroup) {
    const long deep = min(kGroup, rows - first);
    if (deep < kGroup) std::memset(to, 0, static_cast<size_t>(size) * kGroup * 4);
    transpose<false>(from + first * stride, stride, deep, size, to, kGroup);
  }
}

// out[r][key] = sum over d of rows[d][r] keys[d][key], for kRows rows and a group of keys.
INLINE void scores(const float* keys, const float* rows, long size, float* out, long stride) {
  Vector sum[kRows][kAcross];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; r++)
#pragma GCC unroll 3
    for (int v = 0; v < kAcross; v++) sum[r][v] = Vector{};
#pragma GCC unroll 2
  for (long d = 0; d < size; d++) {
    Vector key[kAcross];
#pragma GCC unroll 3
    for (int v = 0; v < kAcross; v++) key[v] = load(keys + d * kGroup + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; r++) {
      const Vector row = rows[d * kGroup + r] - Vector{};
#pragma GCC unroll 3
      for (int v = 0; v < kAcross; v++) sum[r][v] += row * key[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; r++)
#pragma GCC unroll 3
    for (int v = 0; v < kAcross; v++) store(out + r * stride + v * kLanes, sum[r][v]);
}

// out[r] (kFew rows of `width`) = sum over keys begin ... end - 1 of weights[r][key] values[key].
INLINE void combine(const float* weights, long stride, const float* values, long width, long begin, long end,
                    float* out) {
  for (long d = 0; d < width; d += kChunk * kLanes) {
    Vector sum[kFew][kChunk];
#pragma GCC unroll 4
    for (int r = 0; r < kFew; r++)
#pragma GCC unroll 4
      for (int v = 0; v < kChunk; v++) sum[r][v] = Vector{};
    for (long key = begin; key < end; key++) {
      Vector value[kChunk];
#pragma GCC unroll 4
      for (int v = 0; v < kChunk; v++) value[v] = load(values + key * width + d + v * kLanes);
#pragma GCC unroll 4
      for (int r = 0; r < kFew; r++) {
        const Vector weight = weights[r * stride + key] - Vector{};
#pragma GCC unroll 4
        for (int v = 0; v < kChunk; v++) sum[r][v] += weight * value[v];
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kFew; r++)
#pragma GCC unroll 4
      for (int v = 0; v < kChunk; v++) store(out + r * width + d + v * kLanes, sum[r][v]);
  }
}

// out[key] += sum over `count` rows of weights[row][key] rows[row], for keys begin ... end - 1, whole kFews.
INLINE void accumulate(const float* weights, long stride, const float* rows, long count, long width, long begin,
                       long end, float* out) {
  for (long key = begin; key < end; key += kFew)
    for (long d = 0; d < width; d += kChunk * kLanes) {
      Vector sum[kFew][kChunk];
#pragma GCC unroll 4
      for (int n = 0; n < kFew; n++)
#pragma GCC unroll 4
        for (int v = 0; v < kChunk; v++) sum[n][v] = load(out + (key + n) * width + d + v * kLanes);
      for (long r = 0; r < count; r++) {
        Vector row[kChunk];
#pragma GCC unroll 4
        for (int v = 0; v < kChunk; v++) row[v] = load(rows + r * width + d + v * kLanes);
#pragma GCC unroll 4
        for (int n = 0; n < kFew; n++) {
          const Vector weight = weights[r * stride + key + n] - Vector{};
#pragma GCC unroll 4
          for (int v = 0; v < kChunk; v++) sum[n][v] += weight * row[v];
        }
      }
#pragma GCC unroll 4
      for (int n = 0; n < kFew; n++)
#pragma GCC unroll 4
        for (int v = 0; v < kChunk; v++) store(out + (key + n) * width + d + v * kLanes, sum[n][v]);
    }
}

// The keys that the queries first ... last see, rounded to groups.
struct Seen {
  long begin, end;
};

INLINE Seen seen_by(const Shape& shape, long first, long last, long length) {
  long begin = 0, end = length;
  if (shape.distance >= 0) {
    begin = first > shape.distance ? first - shape.distance : 0;
    end = min(end, last + shape.distance + 1);
  }
  if (shape.causal) end = min(end, last + 1);
  return {begin / kGroup * kGroup, ceil_div(end, kGroup) * kGroup};
}

// Scores of a query times the scale, kNever where it does not see: in place, keys begin ... end - 1.
INLINE void mask(float* row, Seen seen, long query, long length, const Shape& shape) {
  long low = 0, high = length;  // the keys that it sees
  if (shape.distance >= 0) {
    low = query > shape.distance ? query - shape.distance : 0;
    high = min(high, query + shape.distance + 1);
  }
  if (shape.causal) high = min(high, query + 1);
  Lanes lane;
  for (int i = 0; i < kLanes; i++) lane[i] = i;
  for (long key = seen.begin; key < seen.end; key += kLanes) {
    const Vector score = load(row + key) * shape.scale;
    const Lanes number = lane + static_cast<int32_t>(key);
    const Lanes visible = (number >= static_cast<int32_t>(low)) & (number < static_cast<int32_t>(high));
    store(row + key, visible ? score : Vector{} + kNever);
  }
}

INLINE float sum_lanes(Vector v) {
  float total = 0;
  for (int i = 0; i < kLanes; i++) total += v[i];
  return total;
}

// Scores to exponentials, in place; returns the log of their sum, and the sum in `total`.
INLINE float exponentials(float* row, Seen seen, float* total) {
  Vector highest = Vector{} + kNever;
  for (long key = seen.begin; key < seen.end; key += kLanes) {
    const Vector score = load(row + key);
    highest = score > highest ? score : highest;
  }
  float top = highest[0];
  for (int i = 1; i < kLanes; i++) top = highest[i] > top ? highest[i] : top;
  Vector sum = {};
  for (long key = seen.begin; key < seen.end; key += kLanes) {
    const Vector part = exponential(load(row + key) - top);
    store(row + key, part);
    sum += part;
  }
  *total = sum_lanes(sum);
  return top + std::log(*total);
}

// Weights of a query times what dropout makes of them, in place.
INLINE void drop(float* row, Seen seen, const Dropout& dropout, uint32_t word) {
  for (long key = seen.begin; key < seen.end; key += kLanes)
    store(row + key, load(row + key) * dropout.factors(word, key));
}

// Run task(sequence, head of the keys, scratch of so many floats) for all of them; 2 when memory is short.
template <class Task>
int run(long sequences, const Shape& shape, long floats, int threads, Task task) {
  std::atomic<long> next{0};
  std::atomic<int> code{0};
  parallel(threads, [&](int) {
    float* data = static_cast<float*>(std::aligned_alloc(64, static_cast<size_t>(ceil_div(floats, 16)) * 64));
    if (!data) {
      code = 2;
      return;
    }
    for (long n; (n = next.fetch_add(1)) < sequences * shape.key_heads;)
      task(n / shape.key_heads, n % shape.key_heads, Parts{data});
    std::free(data);
  });
  return code;
}

// Of the longest sequence, in whole groups.
long longest(const int32_t* starts, long sequences) {
  long found = 0;
  for (long s = 0; s < sequences; s++)
    if (starts[s + 1] - starts[s] > found) found = starts[s + 1] - starts[s];
  return ceil_div(found, kGroup) * kGroup;
}

}  // namespace

extern "C" {

// out (T, H, D); logs (H, T): the log of the sum of each query's exponentials.  Dropout takes the row
// h * tokens + t for the query t of the head h, and the key's place in its sequence for the column.  Returns 2 when
// memory is short.
int wellread_attention(const float* q, const float* k, const float* v, const int32_t* starts, long sequences,
                       long tokens, long heads, long key_heads, long size, long distance, int causal, float scale,
                       uint64_t seed, double rate, float* out, float* logs, int threads) {
  const Dropout dropout(seed, rate);
  const Shape shape{heads, key_heads, size, distance, causal != 0, scale};
  const long room = longest(starts, sequences), width = shape.width(), share = heads / key_heads;
  const long floats = room * size + room * width + size * kGroup + kRows * room + kFew * width + 80;
  return run(sequences, shape, floats, threads, [&](long s, long g, Parts parts) {
    float *keys = parts.take(room * size), *values = parts.take(room * width), *rows = parts.take(size * kGroup);
    float *weights = parts.take(kRows * room), *some = parts.take(kFew * width);
    const long begin = starts[s], length = starts[s + 1] - begin;
    turn_rows(k + (begin * key_heads + g) * size, key_heads * size, length, size, keys);
    copy_rows(v + (begin * key_heads + g) * size, key_heads * size, length, size, width, values);
    for (long h = g * share; h < (g + 1) * share; h++)
      for (long first = 0; first < length; first += kGroup) {
        const long deep = min(kGroup, length - first);
        turn_rows(q + ((begin + first) * heads + h) * size, heads * size, deep, size, rows);
        for (long r = 0; r < deep; r += kRows) {
          const long query = first + r, count = min(kRows, deep - r);
          const Seen seen = seen_by(shape, query, query + count - 1, length);
          for (long key = seen.begin; key < seen.end; key += kGroup)
            scores(keys + key * size, rows + r, size, weights + key, room);
          float sums[kRows];
          for (long i = 0; i < count; i++) {
            mask(weights + i * room, seen, query + i, length, shape);
            const long place = h * tokens + begin + query + i;
            logs[place] = exponentials(weights + i * room, seen, sums + i);
            if (dropout.drops()) drop(weights + i * room, seen, dropout, dropout.row(static_cast<uint64_t>(place)));
          }
          for (long i = 0; i < count; i += kFew) {
            combine(weights + i * room, room, values, width, seen.begin, min(seen.end, length), some);
            for (long n = 0; n < min(kFew, count - i); n++) {
              float* to = out + ((begin + query + i + n) * heads + h) * size;
              const float factor = 1.0f / sums[i + n];
              for (long d = 0; d < size; d++) to[d] = some[n * width + d] * factor;
            }
          }
        }
      }
  });
}

// dq, dk, dv from the gradient of out; out and logs as wellread_attention left them.
int wellread_attention_backward(const float* q, const float* k, const float* v, const float* out, const float* logs,
                                const float* gradient, const int32_t* starts, long sequences, long tokens, long heads,
                                long key_heads, long size, long distance, int causal, float scale, uint64_t seed,
                                double rate, float* dq, float* dk, float* dv, int threads) {
  const Dropout dropout(seed, rate);
  const Shape shape{heads, key_heads, size, distance, causal != 0, scale};
  const long room = longest(starts, sequences), width = shape.width(), share = heads / key_heads;
  const long floats = 2 * room * size + 3 * room * width + 2 * size * kGroup + 2 * kGroup * width +
                      2 * kGroup * room + kFew * width + 160;
  return run(sequences, shape, floats, threads, [&](long s, long g, Parts parts) {
    float *keys_up = parts.take(room * size), *values_up = parts.take(room * size), *keys = parts.take(room * width);
    float *to_keys = parts.take(room * width), *to_values = parts.take(room * width);
    float *rows_up = parts.take(size * kGroup), *errors_up = parts.take(size * kGroup);
    float *rows = parts.take(kGroup * width), *errors = parts.take(kGroup * width);
    float *weights = parts.take(kGroup * room), *slopes = parts.take(kGroup * room), *some = parts.take(kFew * width);
    const long begin = starts[s], length = starts[s + 1] - begin, stride = key_heads * size;
    const long place = (begin * key_heads + g) * size;
    turn_rows(k + place, stride, length, size, keys_up);
    turn_rows(v + place, stride, length, size, values_up);
    copy_rows(k + place, stride, length, size, width, keys);
    std::memset(to_keys, 0, static_cast<size_t>(room) * width * 4);
    std::memset(to_values, 0, static_cast<size_t>(room) * width * 4);
    for (long h = g * share; h < (g + 1) * share; h++)
      for (long first = 0; first < length; first += kGroup) {
        const long deep = min(kGroup, length - first), at = ((begin + first) * heads + h) * size;
        turn_rows(q + at, heads * size, deep, size, rows_up);
        turn_rows(gradient + at, heads * size, deep, size, errors_up);
        copy_rows(q + at, heads * size, deep, size, width, rows);
        copy_rows(gradient + at, heads * size, deep, size, width, errors);
        const Seen seen = seen_by(shape, first, first + deep - 1, length);
        for (long r = 0; r < deep; r += kRows) {
          for (long key = seen.begin; key < seen.end; key += kGroup) {
            scores(keys_up + key * size, rows_up + r, size, weights + r * room + key, room);
            scores(values_up + key * size, errors_up + r, size, slopes + r * room + key, room);
          }
          for (long i = r; i < min(r + kRows, deep); i++) {
            const long query = first + i;
            mask(weights + i * room, seen, query, length, shape);
            float dot = 0;
            const float *o = out + at + i * heads * size, *e = errors + i * width;
            for (long d = 0; d < size; d++) dot += o[d] * e[d];
            const float log = logs[h * tokens + begin + query];
            const uint32_t word = dropout.row(static_cast<uint64_t>(h * tokens + begin + query));
            for (long key = seen.begin; key < seen.end; key += kLanes) {
              const Vector p = exponential(load(weights + i * room + key) - log);
              const Vector factor = dropout.drops() ? dropout.factors(word, key) : Vector{} + 1.0f;
              store(weights + i * room + key, p * factor);
              store(slopes + i * room + key, p * (load(slopes + i * room + key) * factor - dot) * scale);
            }
          }
          for (long i = r; i < min(r + kRows, deep); i += kFew) {
            combine(slopes + i * room, room, keys, width, seen.begin, min(seen.end, length), some);
            for (long n = 0; n < min(kFew, deep - i); n++)
              std::memcpy(dq + at + (i + n) * heads * size, some + n * width, static_cast<size_t>(size) * 4);
          }
        }
        accumulate(weights, room, errors, deep, width, seen.begin, seen.end, to_values);
        accumulate(slopes, room, rows, deep, width, seen.begin, seen.end, to_keys);
      }
    for (long t = 0; t < length; t++) {
      std::memcpy(dk + place + t * stride, to_keys + t * width, static_cast<size_t>(size) * 4);
      std::memcpy(dv + place + t * stride, to_values + t * width, static_cast<size_t>(size) * 4);
    }
  });
}

}  // extern "C"

// Softmax attention over packed sequences, forward and backward, on floats; products of floats or of bfloat16.
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
//
// The copies hold words of 32 bits (vector.h): kPer = 1 float, or kPer = 2 of bfloat16, neighbours along what a product
// sums over.  Scores, exponentials and all sums are floats either way; only factors are rounded.

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

// Rows of `width` floats to half as many of words, in place: a word holds the same column of two rows.
INLINE void pair_rows(float* rows, long count, long width) {
  for (long r = 0; r < count; r += 2)
    for (long d = 0; d < width; d += kLanes) {
      const float* from = rows + r * width + d;
      store(rows + r / 2 * width + d, paired(load(from), r + 1 < count ? load(from + width) : Vector{}));
    }
}

// Rows of a head to rows of `width` floats, zeros beyond; words of bfloat16 hold the same column of two rows.
template <int P>
void copy_rows(const float* from, long stride, long rows, long size, long width, float* to) {
  for (long r = 0; r < rows; r++) {
    std::memcpy(to + r * width, from + r * stride, static_cast<size_t>(size) * 4);
    std::memset(to + r * width + size, 0, static_cast<size_t>(width - size) * 4);
  }
  if constexpr (P == 2) pair_rows(to, rows, width);
}

// Rows of a head to words [group][d / kPer][kGroup], zeros beyond the last row.  `to` has room for floats.
template <int P>
void turn_rows(const float* from, long stride, long rows, long size, float* to) {
  for (long first = 0; first < rows; first += kGroup, to += size / P * kGroup) {
    const long deep = min(kGroup, rows - first);
    if (deep < kGroup) std::memset(to, 0, static_cast<size_t>(size) * kGroup * 4);
    transpose<false>(from + first * stride, stride, deep, size, to, kGroup);
    if constexpr (P == 2) pair_rows(to, size, kGroup);
  }
}

// The floats begin ... end - 1 to bfloat16 at the same places of `to`, which may lie over them; whole vectors.
INLINE void narrow(const float* from, long begin, long end, float* to) {
  for (long i = begin; i < end; i += kLanes) store(reinterpret_cast<Half*>(to) + i, load(from + i));
}

// out[r][key] = sum over d of rows[d][r] keys[d][key], for kRows rows and a group of keys; size in words.
template <int P>
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
      const Vector row = everywhere(rows + d * kGroup + r);
#pragma GCC unroll 3
      for (int v = 0; v < kAcross; v++) sum[r][v] = multiply_add<P>(sum[r][v], row, key[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; r++)
#pragma GCC unroll 3
    for (int v = 0; v < kAcross; v++) store(out + r * stride + v * kLanes, sum[r][v]);
}

// out[r] (kFew rows of `width`) = sum over the words begin ... end - 1 of weights[r][word] values[word].
template <int P>
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
        const Vector weight = everywhere(weights + r * stride + key);
#pragma GCC unroll 4
        for (int v = 0; v < kChunk; v++) sum[r][v] = multiply_add<P>(sum[r][v], weight, value[v]);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kFew; r++)
#pragma GCC unroll 4
      for (int v = 0; v < kChunk; v++) store(out + r * width + d + v * kLanes, sum[r][v]);
  }
}

// out[key] += sum over `count` words of weights[word][key] rows[word], for keys begin ... end - 1, whole kFews.
template <int P>
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
          const Vector weight = everywhere(weights + r * stride + key + n);
#pragma GCC unroll 4
          for (int v = 0; v < kChunk; v++) sum[n][v] = multiply_add<P>(sum[n][v], weight, row[v]);
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

// The packed sequences.
struct Batch {
  const int32_t* starts;
  long sequences, tokens;
};

template <int P>
int forward(const float* q, const float* k, const float* v, Batch batch, const Shape& shape, const Dropout& dropout,
            float* out, float* logs, int threads) {
  const long heads = shape.heads, size = shape.size, width = shape.width(), share = heads / shape.key_heads;
  const long room = longest(batch.starts, batch.sequences), stride = shape.key_heads * size;
  const long floats = room * size + room * width + size * kGroup + kRows * room + kFew * width + 80;
  return run(batch.sequences, shape, floats, threads, [&](long s, long g, Parts parts) {
    float *keys = parts.take(room * size), *values = parts.take(room * width), *rows = parts.take(size * kGroup);
    float *weights = parts.take(kRows * room), *some = parts.take(kFew * width);
    const long begin = batch.starts[s], length = batch.starts[s + 1] - begin;
    turn_rows<P>(k + begin * stride + g * size, stride, length, size, keys);
    copy_rows<P>(v + begin * stride + g * size, stride, length, size, width, values);
    for (long h = g * share; h < (g + 1) * share; h++)
      for (long first = 0; first < length; first += kGroup) {
        const long deep = min(kGroup, length - first);
        turn_rows<P>(q + ((begin + first) * heads + h) * size, heads * size, deep, size, rows);
        for (long r = 0; r < deep; r += kRows) {
          const long query = first + r, count = min(kRows, deep - r);
          const Seen seen = seen_by(shape, query, query + count - 1, length);
          for (long key = seen.begin; key < seen.end; key += kGroup)
            scores<P>(keys + key * (size / P), rows + r, size / P, weights + key, room);
          float sums[kRows];
          for (long i = 0; i < count; i++) {
            float* row = weights + i * room;
            mask(row, seen, query + i, length, shape);
            const long place = h * batch.tokens + begin + query + i;
            logs[place] = exponentials(row, seen, sums + i);
            if (dropout.drops()) drop(row, seen, dropout, dropout.row(static_cast<uint64_t>(place)));
            if (P == 2) narrow(row, seen.begin, seen.end, row);
          }
          for (long i = 0; i < count; i += kFew) {
            combine<P>(weights + i * room, room, values, width, seen.begin / P, ceil_div(min(seen.end, length), P),
                       some);
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

// A query on the way back: the log of the sum of its exponentials, its output times its gradient, and its row of
// dropout; or none, to fill up a pair.
struct Query {
  bool there;
  float log, dot;
  uint32_t word;
};

// Turns scores into weights and what reaches the weights into what reaches the scores, for a vector of keys.
INLINE void slope(const Query& query, const Dropout& dropout, float scale, long key, Vector* weight, Vector* error) {
  if (!query.there) {
    *weight = *error = Vector{};
    return;
  }
  const Vector p = exponential(*weight - query.log);
  const Vector factor = dropout.drops() ? dropout.factors(query.word, key) : Vector{} + 1.0f;
  *weight = p * factor;
  *error = p * (*error * factor - query.dot) * scale;
}

template <int P>
int backward(const float* q, const float* k, const float* v, const float* out, const float* logs,
             const float* gradient, Batch batch, const Shape& shape, const Dropout& dropout, float* dq, float* dk,
             float* dv, int threads) {
  const long heads = shape.heads, size = shape.size, width = shape.width(), share = heads / shape.key_heads;
  const long room = longest(batch.starts, batch.sequences), stride = shape.key_heads * size;
  const long floats = 2 * room * size + 3 * room * width + 2 * size * kGroup + 2 * kGroup * width +
                      (2 * kGroup + kRows) * room + kFew * width + 176;
  return run(batch.sequences, shape, floats, threads, [&](long s, long g, Parts parts) {
    float *keys_up = parts.take(room * size), *values_up = parts.take(room * size), *keys = parts.take(room * width);
    float *to_keys = parts.take(room * width), *to_values = parts.take(room * width);
    float *rows_up = parts.take(size * kGroup), *errors_up = parts.take(size * kGroup);
    float *rows = parts.take(kGroup * width), *errors = parts.take(kGroup * width);
    float *weights = parts.take(kGroup * room), *slopes = parts.take(kGroup * room), *some = parts.take(kFew * width);
    float* narrowed = parts.take(kRows * room);
    const long begin = batch.starts[s], length = batch.starts[s + 1] - begin, place = begin * stride + g * size;
    turn_rows<P>(k + place, stride, length, size, keys_up);
    turn_rows<P>(v + place, stride, length, size, values_up);
    copy_rows<P>(k + place, stride, length, size, width, keys);
    std::memset(to_keys, 0, static_cast<size_t>(room) * width * 4);
    std::memset(to_values, 0, static_cast<size_t>(room) * width * 4);
    for (long h = g * share; h < (g + 1) * share; h++)
      for (long first = 0; first < length; first += kGroup) {
        const long deep = min(kGroup, length - first), at = ((begin + first) * heads + h) * size;
        turn_rows<P>(q + at, heads * size, deep, size, rows_up);
        turn_rows<P>(gradient + at, heads * size, deep, size, errors_up);
        copy_rows<P>(q + at, heads * size, deep, size, width, rows);
        copy_rows<P>(gradient + at, heads * size, deep, size, width, errors);
        const Seen seen = seen_by(shape, first, first + deep - 1, length);
        const auto query_at = [&](long i) {
          if (i >= deep) return Query{};
          mask(weights + i * room, seen, first + i, length, shape);
          float dot = 0;
          const float *o = out + at + i * heads * size, *e = gradient + at + i * heads * size;
          for (long d = 0; d < size; d++) dot += o[d] * e[d];
          const long number = h * batch.tokens + begin + first + i;
          return Query{true, logs[number], dot, dropout.row(static_cast<uint64_t>(number))};
        };
        for (long r = 0; r < deep; r += kRows) {
          for (long key = seen.begin; key < seen.end; key += kGroup) {
            scores<P>(keys_up + key * (size / P), rows_up + r, size / P, weights + r * room + key, room);
            scores<P>(values_up + key * (size / P), errors_up + r, size / P, slopes + r * room + key, room);
          }
          for (long i = r; i < min(r + kRows, deep); i += 2) {
            const Query query = query_at(i), next = query_at(i + 1);
            float *weight = weights + i * room, *error = slopes + i * room;
            // Pairs of rows go where they do no harm: to rows that have been read.
            float *pair = weights + i / 2 * room, *error_pair = slopes + i / 2 * room;
            Half* half = reinterpret_cast<Half*>(narrowed + (i - r) * room);
            for (long key = seen.begin; key < seen.end; key += kLanes) {
              Vector w = load(weight + key), e = load(error + key);
              Vector next_w = load(weight + room + key), next_e = load(error + room + key);
              slope(query, dropout, shape.scale, key, &w, &e);
              slope(next, dropout, shape.scale, key, &next_w, &next_e);
              if constexpr (P == 1) {
                store(weight + key, w), store(weight + room + key, next_w);
                store(error + key, e), store(error + room + key, next_e);
              } else {
                store(pair + key, paired(w, next_w)), store(error_pair + key, paired(e, next_e));
                store(half + key, e), store(half + 2 * room + key, next_e);
              }
            }
          }
          for (long i = r; i < min(r + kRows, deep); i += kFew) {
            combine<P>(P == 1 ? slopes + i * room : narrowed + (i - r) * room, room, keys, width, seen.begin / P,
                       ceil_div(min(seen.end, length), P), some);
            for (long n = 0; n < min(kFew, deep - i); n++)
              std::memcpy(dq + at + (i + n) * heads * size, some + n * width, static_cast<size_t>(size) * 4);
          }
        }
        accumulate<P>(weights, room, errors, ceil_div(deep, P), width, seen.begin, seen.end, to_values);
        accumulate<P>(slopes, room, rows, ceil_div(deep, P), width, seen.begin, seen.end, to_keys);
      }
    for (long t = 0; t < length; t++) {
      std::memcpy(dk + place + t * stride, to_keys + t * width, static_cast<size_t>(size) * 4);
      std::memcpy(dv + place + t * stride, to_values + t * width, static_cast<size_t>(size) * 4);
    }
  });
}

}  // namespace

extern "C" {

// out (T, H, D); logs (H, T): the log of the sum of each query's exponentials.  Dropout takes the row
// h * tokens + t for the query t of the head h, and the key's place in its sequence for the column.  With `halves`
// the factors of products are rounded to bfloat16, for which the size has to be even.  Returns 2 when memory is short.
int wellread_attention(const float* q, const float* k, const float* v, const int32_t* starts, long sequences,
                       long tokens, long heads, long key_heads, long size, long distance, int causal, float scale,
                       uint64_t seed, double rate, int halves, float* out, float* logs, int threads) {
  const auto work = halves ? forward<2> : forward<1>;
  const Shape shape{heads, key_heads, size, distance, causal != 0, scale};
  return work(q, k, v, {starts, sequences, tokens}, shape, Dropout(seed, rate), out, logs, threads);
}

// dq, dk, dv from the gradient of out; out and logs as wellread_attention left them.
int wellread_attention_backward(const float* q, const float* k, const float* v, const float* out, const float* logs,
                                const float* gradient, const int32_t* starts, long sequences, long tokens, long heads,
                                long key_heads, long size, long distance, int causal, float scale, uint64_t seed,
                                double rate, int halves, float* dq, float* dk, float* dv, int threads) {
  const auto work = halves ? backward<2> : backward<1>;
  const Shape shape{heads, key_heads, size, distance, causal != 0, scale};
  const Batch batch{starts, sequences, tokens};
  return work(q, k, v, out, logs, gradient, batch, shape, Dropout(seed, rate), dq, dk, dv, threads);
}

}  // extern "C"

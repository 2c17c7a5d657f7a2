// The element-wise parts of a layer, each in one pass over memory: the gated GELU and the rotary positions, forward
// and backward, and dropout, which is its own way back.
//
// Build it with -ffp-contract=off: the rotation then rounds as separate operations of torch do, to the bit.

#include <cstring>

#include "pool.h"
#include "random.h"
#include "vector.h"

namespace {

// Work on rows begin ... end - 1 of each thread's share.
template <class Task>
void share_rows(long rows, int threads, Task task) {
  parallel(threads, [&](int part) {
    task(rows * part / threads, rows * (part + 1) / threads);
    finish_stream();
  });
}

// ---------------------------------------------------------------------------------------------------------
// Gated GELU

struct Normal {
  Vector cumulative;  // P(N <= x)
  Vector density;     // its derivative
};

// The standard normal distribution, within 1e-7 (Abramowitz and Stegun 7.1.26, on the side without cancellation).
INLINE Normal normal(Vector x) {
  const Lanes negative = x < 0.0f;
  const Vector size = negative ? -x : x;
  const Vector t = 1.0f / (size * (0.3275911f * 0.70710678f) + 1.0f);
  const Vector bell = exponential(size * size * -0.5f);
  Vector sum = t * 1.061405429f - 1.453152027f;
  sum = sum * t + 1.421413741f;
  sum = sum * t - 0.284496736f;
  sum = sum * t + 0.254829592f;
  const Vector tail = sum * t * bell * 0.5f;
  return {negative ? tail : 1.0f - tail, bell * 0.39894228f};
}

// The vectors of a row, the last one padded with zeros.
INLINE Vector load_some(const float* p, long count) {
  if (count >= kLanes) return load(p);
  Vector v = {};
  std::memcpy(&v, p, static_cast<size_t>(count) * 4);
  return v;
}

INLINE void put_some(float* p, Vector v, long count, bool streams) {
  if (streams)
    stream(p, v);
  else if (count >= kLanes)
    store(p, v);
  else
    std::memcpy(p, &v, static_cast<size_t>(count) * 4);
}

// ---------------------------------------------------------------------------------------------------------
// Rotary positions

// to = (x1 cos - x2 sin, x2 cos + x1 sin) for the halves x1, x2 of a head; sign -1 turns back.
INLINE void rotate_head(const float* x, const float* cosines, const float* sines, float sign, long half, float* to) {
  for (long i = 0; i < half; i += kLanes) {
    const long count = half - i;
    const Vector c = load_some(cosines + i, count), s = load_some(sines + i, count) * sign;
    const Vector x1 = load_some(x + i, count), x2 = load_some(x + half + i, count);
    put_some(to + i, x1 * c - x2 * s, count, false);
    put_some(to + half + i, x2 * c + x1 * s, count, false);
  }
}

}  // namespace

extern "C" {

// result (rows, width) = gelu(a) * gate, where a and gate are the halves of each row of halves (rows, 2 width).
void wellread_gated_gelu(const float* halves, long rows, long width, float* result, int threads) {
  const bool streams = worth_streaming(result, width, rows * width);
  share_rows(rows, threads, [&](long begin, long end) {
    for (long row = begin; row < end; row++) {
      const float* a = halves + row * 2 * width;
      for (long i = 0; i < width; i += kLanes) {
        const Vector x = load_some(a + i, width - i), gate = load_some(a + width + i, width - i);
        put_some(result + row * width + i, x * normal(x).cumulative * gate, width - i, streams);
      }
    }
  });
}

// The gradient of halves from that of the result.
void wellread_gated_gelu_backward(const float* halves, const float* gradient, long rows, long width, float* result,
                                  int threads) {
  const bool streams = worth_streaming(result, width, rows * width * 2);
  share_rows(rows, threads, [&](long begin, long end) {
    for (long row = begin; row < end; row++) {
      const float* a = halves + row * 2 * width;
      float* to = result + row * 2 * width;
      for (long i = 0; i < width; i += kLanes) {
        const long count = width - i;
        const Vector x = load_some(a + i, count), gate = load_some(a + width + i, count);
        const Vector dy = load_some(gradient + row * width + i, count);
        const Normal n = normal(x);
        put_some(to + i, dy * gate * (n.cumulative + x * n.density), count, streams);
        put_some(to + width + i, dy * x * n.cumulative, count, streams);
      }
    }
  });
}

// qkv (tokens, 3, heads, 2 half) -> query, key, value (tokens, heads, 2 half), the first two turned by the angles of
// their token; cosines and sines are (tokens, 2 half), of which the first half is read.
void wellread_rotate(const float* qkv, const float* cosines, const float* sines, long tokens, long heads, long half,
                     float* query, float* key, float* value, int threads) {
  const long width = heads * 2 * half;
  share_rows(tokens, threads, [&](long begin, long end) {
    for (long t = begin; t < end; t++) {
      const float *x = qkv + t * 3 * width, *c = cosines + t * 2 * half, *s = sines + t * 2 * half;
      for (long h = 0; h < width; h += 2 * half) {
        rotate_head(x + h, c, s, 1.0f, half, query + t * width + h);
        rotate_head(x + width + h, c, s, 1.0f, half, key + t * width + h);
      }
      std::memcpy(value + t * width, x + 2 * width, static_cast<size_t>(width) * 4);
    }
  });
}

// The gradient of qkv from those of query, key and value.
void wellread_rotate_backward(const float* query, const float* key, const float* value, const float* cosines,
                              const float* sines, long tokens, long heads, long half, float* qkv, int threads) {
  const long width = heads * 2 * half;
  share_rows(tokens, threads, [&](long begin, long end) {
    for (long t = begin; t < end; t++) {
      const float *c = cosines + t * 2 * half, *s = sines + t * 2 * half;
      float* to = qkv + t * 3 * width;
      for (long h = 0; h < width; h += 2 * half) {
        rotate_head(query + t * width + h, c, s, -1.0f, half, to + h);
        rotate_head(key + t * width + h, c, s, -1.0f, half, to + width + h);
      }
      std::memcpy(to + 2 * width, value + t * width, static_cast<size_t>(width) * 4);
    }
  });
}

// result (rows, width) = x, where each element is 0 by the chance of `rate` and else divided by 1 - rate.
void wellread_dropout(const float* x, long rows, long width, uint64_t seed, double rate, float* result, int threads) {
  const bool streams = worth_streaming(result, width, rows * width);
  const Dropout dropout(seed, rate);
  share_rows(rows, threads, [&](long begin, long end) {
    for (long row = begin; row < end; row++) {
      const uint32_t word = dropout.row(static_cast<uint64_t>(row));
      for (long i = 0; i < width; i += kLanes) {
        const Vector found = load_some(x + row * width + i, width - i) * dropout.factors(word, i);
        put_some(result + row * width + i, found, width - i, streams);
      }
    }
  });
}

}  // extern "C"

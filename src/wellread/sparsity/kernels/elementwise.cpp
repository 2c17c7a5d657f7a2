// The element-wise parts of a layer, each in one pass over memory: the gated GELU and the rotary positions, forward
// and backward, and dropout, which is its own way back; and the cross-entropy of logits with its gradient.
//
// All of it is worked out in float32.  Where a name ends in _bf16, what stands next to a matrix product is bfloat16:
// the bits are those of float32 rounded once.
//
// Build it with -ffp-contract=off: the rotation then rounds as separate operations of torch do, to the bit.

#include <cmath>
#include <cstring>

#include "pool.h"
#include "random.h"
#include "vector.h"

namespace {

constexpr long kBlock = 512;  // columns whose sums stay in the nearest cache

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
template <class Element>
INLINE Vector load_some(const Element* p, long count) {
  if (count >= kLanes) return load(p);
  Element some[kLanes] = {};
  std::memcpy(some, p, static_cast<size_t>(count) * sizeof(Element));
  return load(some);
}

template <class Element>
INLINE void put_some(Element* p, Vector v, long count, bool streams) {
  if (streams) {
    stream(p, v);
  } else if (count >= kLanes) {
    store(p, v);
  } else {
    Element some[kLanes];
    store(some, v);
    std::memcpy(p, some, static_cast<size_t>(count) * sizeof(Element));
  }
}

template <bool kDrops, class Element>
void gated_gelu(const Element* halves, long rows, long width, const Dropout& dropout, Element* result, int threads) {
  const bool streams = worth_streaming(result, width, rows * width);
  share_rows(rows, threads, [&](long begin, long end) {
    for (long row = begin; row < end; row++) {
      const Element* a = halves + row * 2 * width;
      const uint32_t word = dropout.row(static_cast<uint64_t>(row));
      for (long i = 0; i < width; i += kLanes) {
        const Vector x = load_some(a + i, width - i), gate = load_some(a + width + i, width - i);
        Vector y = x * normal(x).cumulative * gate;
        if (kDrops) y *= dropout.factors(word, i);
        put_some(result + row * width + i, y, width - i, streams);
      }
    }
  });
}

template <class Element>
void gated_gelu(const Element* halves, long rows, long width, uint64_t seed, double rate, Element* result,
                int threads) {
  const Dropout dropout(seed, rate);
  if (dropout.drops())
    gated_gelu<true>(halves, rows, width, dropout, result, threads);
  else
    gated_gelu<false>(halves, rows, width, dropout, result, threads);
}

template <bool kDrops, class Element>
void gated_gelu_backward(const Element* halves, const Element* gradient, long rows, long width, const Dropout& dropout,
                         Element* result, int threads) {
  const bool streams = worth_streaming(result, width, rows * width * 2);
  share_rows(rows, threads, [&](long begin, long end) {
    for (long row = begin; row < end; row++) {
      const Element* a = halves + row * 2 * width;
      Element* to = result + row * 2 * width;
      const uint32_t word = dropout.row(static_cast<uint64_t>(row));
      for (long i = 0; i < width; i += kLanes) {
        const long count = width - i;
        const Vector x = load_some(a + i, count), gate = load_some(a + width + i, count);
        Vector dy = load_some(gradient + row * width + i, count);
        if (kDrops) dy *= dropout.factors(word, i);
        const Normal n = normal(x);
        put_some(to + i, dy * gate * (n.cumulative + x * n.density), count, streams);
        put_some(to + width + i, dy * x * n.cumulative, count, streams);
      }
    }
  });
}

template <class Element>
void gated_gelu_backward(const Element* halves, const Element* gradient, long rows, long width, uint64_t seed,
                         double rate, Element* result, int threads) {
  const Dropout dropout(seed, rate);
  if (dropout.drops())
    gated_gelu_backward<true>(halves, gradient, rows, width, dropout, result, threads);
  else
    gated_gelu_backward<false>(halves, gradient, rows, width, dropout, result, threads);
}

// ---------------------------------------------------------------------------------------------------------
// Rotary positions

// to = (x1 cos - x2 sin, x2 cos + x1 sin) for the halves x1, x2 of a head; sign -1 turns back.
template <class From, class To>
INLINE void rotate_head(const From* x, const float* cosines, const float* sines, float sign, long half, To* to) {
  for (long i = 0; i < half; i += kLanes) {
    const long count = half - i;
    const Vector c = load_some(cosines + i, count), s = load_some(sines + i, count) * sign;
    const Vector x1 = load_some(x + i, count), x2 = load_some(x + half + i, count);
    put_some(to + i, x1 * c - x2 * s, count, false);
    put_some(to + half + i, x2 * c + x1 * s, count, false);
  }
}

template <class From, class To>
INLINE void copy_row(const From* from, long width, To* to) {
  for (long i = 0; i < width; i += kLanes) put_some(to + i, load_some(from + i, width - i), width - i, false);
}

template <class Element>
void rotate(const Element* qkv, const float* cosines, const float* sines, long tokens, long heads, long half,
            float* query, float* key, float* value, int threads) {
  const long width = heads * 2 * half;
  share_rows(tokens, threads, [&](long begin, long end) {
    for (long t = begin; t < end; t++) {
      const Element* x = qkv + t * 3 * width;
      const float *c = cosines + t * 2 * half, *s = sines + t * 2 * half;
      for (long h = 0; h < width; h += 2 * half) {
        rotate_head(x + h, c, s, 1.0f, half, query + t * width + h);
        rotate_head(x + width + h, c, s, 1.0f, half, key + t * width + h);
      }
      copy_row(x + 2 * width, width, value + t * width);
    }
  });
}

template <class Element>
void rotate_backward(const float* query, const float* key, const float* value, const float* cosines,
                     const float* sines, long tokens, long heads, long half, Element* qkv, int threads) {
  const long width = heads * 2 * half;
  share_rows(tokens, threads, [&](long begin, long end) {
    for (long t = begin; t < end; t++) {
      const float *c = cosines + t * 2 * half, *s = sines + t * 2 * half;
      Element* to = qkv + t * 3 * width;
      for (long h = 0; h < width; h += 2 * half) {
        rotate_head(query + t * width + h, c, s, -1.0f, half, to + h);
        rotate_head(key + t * width + h, c, s, -1.0f, half, to + width + h);
      }
      copy_row(value + t * width, width, to + 2 * width);
    }
  });
}

// ---------------------------------------------------------------------------------------------------------
// Cross-entropy

// Logits to their probabilities, less one at the target, in place; the loss of each row, NaN if a logit is not finite.
template <class Element>
void cross_entropy(Element* logits, const int64_t* targets, long rows, long width, float* losses, int threads) {
  share_rows(rows, threads, [&](long begin, long end) {
    for (long row = begin; row < end; row++) {
      Element* x = logits + row * width;
      const long even = width / kLanes * kLanes, target = targets[row];
      const Vector last = load_some(x + even, width - even);
      Lanes lane;
      for (int i = 0; i < kLanes; i++) lane[i] = i;
      const Lanes there = lane < static_cast<int32_t>(width - even);
      Vector highest = there ? last : Vector{} - INFINITY, flaws = last * 0.0f;
      for (long i = 0; i < even; i += kLanes) {
        const Vector score = load(x + i);
        highest = score > highest ? score : highest;
        flaws += score * 0.0f;
      }
      float top = highest[0], flaw = flaws[0];
      for (int i = 1; i < kLanes; i++) {
        top = highest[i] > top ? highest[i] : top;
        flaw += flaws[i];
      }
      Vector sum = there ? exponential(last - top) : Vector{};
      for (long i = 0; i < even; i += kLanes) sum += exponential(load(x + i) - top);
      float total = 0;
      for (int i = 0; i < kLanes; i++) total += sum[i];
      const float factor = 1.0f / total;
      const float right = load_some(x + target, 1)[0];
      const float error = exponential(Vector{} + (right - top))[0] * factor - 1.0f;
      for (long i = 0; i < even; i += kLanes) store(x + i, exponential(load(x + i) - top) * factor);
      if (even < width) put_some(x + even, exponential(last - top) * factor, width - even, false);
      put_some(x + target, Vector{} + error, 1, false);
      losses[row] = std::log(total) + (top - right) + flaw;
    }
  });
}

// sums (width) += the sum of the rows.
template <class Element>
void add_rows(const Element* data, long rows, long width, float* sums, int threads) {
  const long blocks = ceil_div(width, kBlock);
  share_rows(blocks, threads, [&](long begin, long end) {
    for (long first = begin * kBlock; first < min(end * kBlock, width); first += kBlock) {
      const long last = min(first + kBlock, width);
      for (long row = 0; row < rows; row++)
        for (long i = first; i < last; i += kLanes) {
          const Vector sum = load_some(sums + i, last - i) + load_some(data + row * width + i, last - i);
          put_some(sums + i, sum, last - i, false);
        }
    }
  });
}

// ---------------------------------------------------------------------------------------------------------
// Dropout

template <class From, class To>
void dropout(const From* x, long rows, long width, uint64_t seed, double rate, To* result, int threads) {
  const bool streams = worth_streaming(result, width, rows * width);
  const Dropout rule(seed, rate);
  share_rows(rows, threads, [&](long begin, long end) {
    for (long row = begin; row < end; row++) {
      const uint32_t word = rule.row(static_cast<uint64_t>(row));
      for (long i = 0; i < width; i += kLanes) {
        const Vector found = load_some(x + row * width + i, width - i) * rule.factors(word, i);
        put_some(result + row * width + i, found, width - i, streams);
      }
    }
  });
}

}  // namespace

extern "C" {

// result (rows, width) = gelu(a) * gate, where a and gate are the halves of each row of halves (rows, 2 width), and of
// it what dropout makes.
void wellread_gated_gelu(const float* halves, long rows, long width, uint64_t seed, double rate, float* result,
                         int threads) {
  gated_gelu(halves, rows, width, seed, rate, result, threads);
}

void wellread_gated_gelu_bf16(const Half* halves, long rows, long width, uint64_t seed, double rate, Half* result,
                              int threads) {
  gated_gelu(halves, rows, width, seed, rate, result, threads);
}

// The gradient of halves from that of the result.
void wellread_gated_gelu_backward(const float* halves, const float* gradient, long rows, long width, uint64_t seed,
                                  double rate, float* result, int threads) {
  gated_gelu_backward(halves, gradient, rows, width, seed, rate, result, threads);
}

void wellread_gated_gelu_backward_bf16(const Half* halves, const Half* gradient, long rows, long width, uint64_t seed,
                                       double rate, Half* result, int threads) {
  gated_gelu_backward(halves, gradient, rows, width, seed, rate, result, threads);
}

// qkv (tokens, 3, heads, 2 half) -> query, key, value (tokens, heads, 2 half), the first two turned by the angles of
// their token; cosines and sines are (tokens, 2 half), of which the first half is read.
void wellread_rotate(const float* qkv, const float* cosines, const float* sines, long tokens, long heads, long half,
                     float* query, float* key, float* value, int threads) {
  rotate(qkv, cosines, sines, tokens, heads, half, query, key, value, threads);
}

void wellread_rotate_bf16(const Half* qkv, const float* cosines, const float* sines, long tokens, long heads, long half,
                          float* query, float* key, float* value, int threads) {
  rotate(qkv, cosines, sines, tokens, heads, half, query, key, value, threads);
}

// The gradient of qkv from those of query, key and value.
void wellread_rotate_backward(const float* query, const float* key, const float* value, const float* cosines,
                              const float* sines, long tokens, long heads, long half, float* qkv, int threads) {
  rotate_backward(query, key, value, cosines, sines, tokens, heads, half, qkv, threads);
}

void wellread_rotate_backward_bf16(const float* query, const float* key, const float* value, const float* cosines,
                                   const float* sines, long tokens, long heads, long half, Half* qkv, int threads) {
  rotate_backward(query, key, value, cosines, sines, tokens, heads, half, qkv, threads);
}

// Logits (rows, width) to the gradient of their summed cross-entropy, in place; its parts in losses (rows).
void wellread_cross_entropy(float* logits, const int64_t* targets, long rows, long width, float* losses, int threads) {
  cross_entropy(logits, targets, rows, width, losses, threads);
}

void wellread_cross_entropy_bf16(Half* logits, const int64_t* targets, long rows, long width, float* losses,
                                 int threads) {
  cross_entropy(logits, targets, rows, width, losses, threads);
}

// sums (width) += the sum of the rows of data (rows, width).
void wellread_add_rows(const float* data, long rows, long width, float* sums, int threads) {
  add_rows(data, rows, width, sums, threads);
}

void wellread_add_rows_bf16(const Half* data, long rows, long width, float* sums, int threads) {
  add_rows(data, rows, width, sums, threads);
}

// result (rows, width) = x, where each element is 0 by the chance of `rate` and else divided by 1 - rate.
void wellread_dropout(const float* x, long rows, long width, uint64_t seed, double rate, float* result, int threads) {
  dropout(x, rows, width, seed, rate, result, threads);
}

void wellread_dropout_bf16(const Half* x, long rows, long width, uint64_t seed, double rate, float* result,
                           int threads) {
  dropout(x, rows, width, seed, rate, result, threads);
}

// The gradient of x from that of the result.
void wellread_dropout_backward_bf16(const float* gradient, long rows, long width, uint64_t seed, double rate,
                                    Half* result, int threads) {
  dropout(gradient, rows, width, seed, rate, result, threads);
}

}  // extern "C"

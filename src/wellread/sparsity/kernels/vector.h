// Vectors of floats as wide as the target's registers: memory, bfloat16, turning matrices, exp.

#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

// Results of this size do not stay in the caches until they are read; they are written past them.
constexpr long kStreamBytes = 1 << 21;

typedef float Vector __attribute__((vector_size(kLanes * 4), may_alias));
typedef float Unaligned __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef int32_t Lanes __attribute__((vector_size(kLanes * 4)));

INLINE Vector load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
INLINE void store(float* p, Vector v) { *reinterpret_cast<Unaligned*>(p) = v; }

// A float without its lower half.
struct Half {
  uint16_t bits;
};

typedef uint32_t Words __attribute__((vector_size(kLanes * 4)));
typedef uint16_t Halves __attribute__((vector_size(kLanes * 2)));
typedef uint16_t UnalignedHalves __attribute__((vector_size(kLanes * 2), aligned(2), may_alias));

INLINE Vector load(const Half* p) {
  const Halves halves = *reinterpret_cast<const UnalignedHalves*>(p);
  return (Vector)(__builtin_convertvector(halves, Words) << 16);
}

// To the nearest, halfway to even, as torch does.
INLINE Halves narrowed(Vector v) {
  const Words bits = (Words)v;
  const Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Words not_a_number = Words{} + 0x7fc0;
  return __builtin_convertvector(v == v ? rounded : not_a_number, Halves);
}

INLINE void store(Half* p, Vector v) { *reinterpret_cast<UnalignedHalves*>(p) = narrowed(v); }

INLINE float widened(float value) { return value; }
INLINE float widened(Half value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof wide);
  return wide;
}

// A word of 32 bits is a float, or two neighbours of bfloat16, the first in its lower half.  What only moves words
// takes either for a float.

// The word at p in every lane.
INLINE Vector everywhere(const float* p) {
  int32_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return (Vector)(bits - Lanes{});
}

// Words of a (rounded, in the lower halves) and b.
INLINE Vector paired(Vector a, Vector b) {
#if defined(__AVX512BF16__)
  const Words low = (Words)_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)a));
  const Words high = (Words)_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)b));
#else
  const Words low = __builtin_convertvector(narrowed(a), Words), high = __builtin_convertvector(narrowed(b), Words);
#endif
  return (Vector)(low | high << 16);
}

// sum + a * b, lane by lane; of words of two, both products.
template <int kPer>
INLINE Vector multiply_add(Vector sum, Vector a, Vector b) {
  if constexpr (kPer == 1) {
    return sum + a * b;
  } else {
#if defined(__AVX512BF16__)
    return (Vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
    const Words first = (Words)a, second = (Words)b, high = Words{} + 0xffff0000u;
    sum += (Vector)(first << 16) * (Vector)(second << 16);
    return sum + (Vector)(first & high) * (Vector)(second & high);
#endif
  }
}

// Straight to memory: a plain store would read the line first.  p is a multiple of the vector's size.
INLINE void stream(float* p, Vector v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(p, (__m512)v);
#elif defined(__AVX__)
  _mm256_stream_ps(p, (__m256)v);
#else
  store(p, v);
#endif
}

INLINE void stream(Half* p, Vector v) {
#if defined(__AVX512F__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)narrowed(v));
#elif defined(__AVX__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), (__m128i)narrowed(v));
#else
  store(p, v);
#endif
}

// What was streamed is seen by the threads that wait for this one.
INLINE void finish_stream() {
#if defined(__AVX__)
  _mm_sfence();
#endif
}

// Whether an array of `size` elements, in rows `stride` apart, is large and lies so that it can be streamed.
template <class Element>
bool worth_streaming(const Element* data, long stride, long size) {
  const long bytes = size * static_cast<long>(sizeof(Element));
  return bytes >= kStreamBytes && reinterpret_cast<uintptr_t>(data) % 64 == 0 && stride % 16 == 0;
}

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

// Turn kLanes x kLanes floats.
template <bool kStream>
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
  for (int i = 0; i < kLanes; i++) kStream ? stream(to + i * to_stride, v[i]) : store(to + i * to_stride, v[i]);
}

// Turn rows x columns floats of any number.
template <bool kStream>
void transpose(const float* from, long from_stride, long rows, long columns, float* to, long to_stride) {
  const long even_rows = rows / kLanes * kLanes, even_columns = columns / kLanes * kLanes;
  for (long c = 0; c < even_columns; c += kLanes)
    for (long r = 0; r < even_rows; r += kLanes)
      turn<kStream>(from + r * from_stride + c, from_stride, to + c * to_stride + r, to_stride);
  for (long r = 0; r < rows; r++)
    for (long c = r < even_rows ? even_columns : 0; c < columns; c++)
      std::memcpy(to + c * to_stride + r, from + r * from_stride + c, sizeof(float));
}

// exp(z) for z <= 0, within 2 ulp; what would be denormal is 0.
INLINE Vector exponential(Vector z) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
  const Vector low = Vector{} - 87.0f;
  const Lanes lost = z < low;
  z = lost ? low : z;
  const Vector shifted = z * 1.44269504f + kMagic;
  const Vector whole = shifted - kMagic;
  const Vector rest = (z - whole * 0.693359375f) - whole * -2.12194440e-4f;
  Vector sum = Vector{} + 1.9875691500e-4f;
  sum = sum * rest + 1.3981999507e-3f;
  sum = sum * rest + 8.3334519073e-3f;
  sum = sum * rest + 4.1665795894e-2f;
  sum = sum * rest + 1.6666665459e-1f;
  sum = sum * rest + 5.0000001201e-1f;
  sum = sum * rest * rest + rest + 1.0f;
  // Bits of `shifted` count from those of kMagic; moved to the exponent they scale by 2^whole.
  const Lanes power = (Lanes)shifted - 0x4b400000;
  const Vector scaled = (Vector)((Lanes)sum + (power << 23));
  return lost ? Vector{} : scaled;
}

}  // namespace

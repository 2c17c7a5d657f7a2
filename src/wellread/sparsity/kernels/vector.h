// Vectors of floats as wide as the target's registers, and how they go to memory.

#pragma once

#include <cstdint>

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

INLINE Vector load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
INLINE void store(float* p, Vector v) { *reinterpret_cast<Unaligned*>(p) = v; }

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

// What was streamed is seen by the threads that wait for this one.
INLINE void finish_stream() {
#if defined(__AVX__)
  _mm_sfence();
#endif
}

// Whether an array of `size` floats, in rows `stride` apart, is large and lies so that it can be streamed.
inline bool worth_streaming(const float* data, long stride, long size) {
  return size * 4 >= kStreamBytes && reinterpret_cast<uintptr_t>(data) % 64 == 0 && stride % 16 == 0;
}

}  // namespace

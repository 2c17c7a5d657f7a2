// The product of two matrices of signs: packed bits, exclusive or, and a count of the ones.
//
// y = (s W') * scale + bias with s (tokens, inputs), W (outputs, inputs), all of them +1 or -1, and s = +1 where
// x >= threshold.  Where two signs differ their bits differ, so a sum of n products is n - 2 * (bits that differ):
// a whole number, exact.  It is multiplied by the scale and the bias added, each rounded once (no fused
// multiply-add, so that a float32 simulation gives the same bits).  Never build it with -ffast-math.
//
// Weights come in blocks of 8 outputs, words[block][word][8], so that a vector holds one word of 4 or 8 outputs
// and counts need no sum across lanes.  Outputs and inputs are padded with zero bits on both sides, which never
// differ.  Tokens are taken in panels whose bits stay in the first-level cache.
//
// One build for every machine: the functions carry their instruction sets, and `level` chooses among them
// (0 portable, 1 AVX2, 2 AVX-512 with VPOPCNTDQ).

#include <cstdint>
#include <cstdlib>

#include "pool.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx512vpopcntdq")))
#endif

namespace {

constexpr long kOutputs = 8, kPanel = 64;

struct Weights {
  const uint64_t* words;
  const float *scale, *bias;
  long inputs, outputs, per_row;  // per_row: words
};

// Write 8 outputs of a token, or those of them that there are.
void finish(const int32_t* counts, const Weights& w, long first, float* y) {
  for (long o = 0; o < min(kOutputs, w.outputs - first); o++) {
    const float dot = static_cast<float>(w.inputs - 2 * static_cast<long>(counts[o]));
    const float scaled = dot * w.scale[first + o];
    y[first + o] = w.bias ? scaled + w.bias[first + o] : scaled;
  }
}

// ---------------------------------------------------------------------------------------------------------
// Signs to bits: bit j % 64 of word j / 64 is x[j] >= threshold[j]; no thresholds: 0.

void tail(const float* x, const float* thresholds, long begin, long inputs, uint64_t* bits) {
  for (long j = begin; j < inputs; j++)
    bits[j / 64] |= static_cast<uint64_t>(x[j] >= (thresholds ? thresholds[j] : 0.0f)) << (j % 64);
}

void signs_portable(const float* x, const float* thresholds, long inputs, uint64_t* bits) {
  tail(x, thresholds, 0, inputs, bits);
}

#if defined(__x86_64__)
AVX2 void signs_avx2(const float* x, const float* thresholds, long inputs, uint64_t* bits) {
  long j = 0;
  for (; j + 64 <= inputs; j += 64) {
    uint64_t word = 0;
    for (long i = 0; i < 64; i += 8) {
      const __m256 at = thresholds ? _mm256_loadu_ps(thresholds + j + i) : _mm256_setzero_ps();
      const int mask = _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x + j + i), at, _CMP_GE_OQ));
      word |= static_cast<uint64_t>(static_cast<uint32_t>(mask)) << i;
    }
    bits[j / 64] = word;
  }
  tail(x, thresholds, j, inputs, bits);
}

AVX512 void signs_avx512(const float* x, const float* thresholds, long inputs, uint64_t* bits) {
  long j = 0;
  for (; j + 64 <= inputs; j += 64) {
    uint64_t word = 0;
    for (long i = 0; i < 64; i += 16) {
      const __m512 at = thresholds ? _mm512_loadu_ps(thresholds + j + i) : _mm512_setzero_ps();
      const __mmask16 mask = _mm512_cmp_ps_mask(_mm512_loadu_ps(x + j + i), at, _CMP_GE_OQ);
      word |= static_cast<uint64_t>(mask) << i;
    }
    bits[j / 64] = word;
  }
  tail(x, thresholds, j, inputs, bits);
}
#endif

// ---------------------------------------------------------------------------------------------------------
// One block of 8 outputs for N tokens: bits (N, per_row), words (per_row, 8).

void block_portable(const uint64_t* bits, const uint64_t* words, const Weights& w, long first, long n, float* y,
                    long stride) {
  for (long t = 0; t < n; t++) {
    int32_t counts[kOutputs] = {};
    for (long k = 0; k < w.per_row; k++)
      for (long o = 0; o < kOutputs; o++)
        counts[o] += __builtin_popcountll(bits[t * w.per_row + k] ^ words[k * kOutputs + o]);
    finish(counts, w, first, y + t * stride);
  }
}

#if defined(__x86_64__)
// Ones in each byte: two looks at a table of the sixteen half bytes.
AVX2 inline __m256i ones(__m256i v) {
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                         0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i low = _mm256_set1_epi8(15);
  const __m256i high = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
  return _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256(v, low)), _mm256_shuffle_epi8(table, high));
}

// Write a token's 8 outputs, whose counts stand in a vector.
AVX2 inline void finish(__m256i counts, const Weights& w, long first, float* y) {
  if (first + kOutputs > w.outputs) {
    int32_t found[kOutputs];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(found), counts);
    finish(found, w, first, y);
    return;
  }
  const __m256i inputs = _mm256_set1_epi32(static_cast<int>(w.inputs));
  const __m256 dot = _mm256_cvtepi32_ps(_mm256_sub_epi32(inputs, _mm256_slli_epi32(counts, 1)));
  __m256 result = _mm256_mul_ps(dot, _mm256_loadu_ps(w.scale + first));
  if (w.bias) result = _mm256_add_ps(result, _mm256_loadu_ps(w.bias + first));
  _mm256_storeu_ps(y + first, result);
}

AVX2 inline __m256i load(const uint64_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

template <int N>
AVX2 inline void tokens_avx2(const uint64_t* bits, const uint64_t* words, const Weights& w, long first, float* y,
                             long stride) {
  const __m256i zero = _mm256_setzero_si256();
  __m256i total[N][2] = {};
  // A byte holds the counts of 31 words at most.
  for (long begin = 0; begin < w.per_row; begin += 31) {
    __m256i bytes[N][2] = {};
    for (long k = begin; k < min(begin + 31, w.per_row); k++) {
      const __m256i a = load(words + k * kOutputs), b = load(words + k * kOutputs + 4);
#pragma GCC unroll 4
      for (int t = 0; t < N; t++) {
        const __m256i x = _mm256_set1_epi64x(static_cast<long long>(bits[t * w.per_row + k]));
        bytes[t][0] = _mm256_add_epi8(bytes[t][0], ones(_mm256_xor_si256(x, a)));
        bytes[t][1] = _mm256_add_epi8(bytes[t][1], ones(_mm256_xor_si256(x, b)));
      }
    }
#pragma GCC unroll 4
    for (int t = 0; t < N; t++)
      for (int half = 0; half < 2; half++)
        total[t][half] = _mm256_add_epi64(total[t][half], _mm256_sad_epu8(bytes[t][half], zero));
  }
  const __m256i even = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
  for (int t = 0; t < N; t++) {
    const __m256i left = _mm256_permutevar8x32_epi32(total[t][0], even);
    const __m256i right = _mm256_permutevar8x32_epi32(total[t][1], even);
    finish(_mm256_blend_epi32(left, right, 0xf0), w, first, y + t * stride);
  }
}

AVX2 void block_avx2(const uint64_t* bits, const uint64_t* words, const Weights& w, long first, long n, float* y,
                     long stride) {
  long t = 0;
  for (; t + 4 <= n; t += 4) tokens_avx2<4>(bits + t * w.per_row, words, w, first, y + t * stride, stride);
  for (; t < n; t++) tokens_avx2<1>(bits + t * w.per_row, words, w, first, y + t * stride, stride);
}

template <int N>
AVX512 inline void tokens_avx512(const uint64_t* bits, const uint64_t* words, const Weights& w, long first, float* y,
                                 long stride) {
  __m512i total[N] = {};
  for (long k = 0; k < w.per_row; k++) {
    const __m512i a = _mm512_loadu_si512(words + k * kOutputs);
#pragma GCC unroll 8
    for (int t = 0; t < N; t++) {
      const __m512i x = _mm512_set1_epi64(static_cast<long long>(bits[t * w.per_row + k]));
      total[t] = _mm512_add_epi64(total[t], _mm512_popcnt_epi64(_mm512_xor_si512(x, a)));
    }
  }
  for (int t = 0; t < N; t++) finish(_mm512_cvtepi64_epi32(total[t]), w, first, y + t * stride);
}

AVX512 void block_avx512(const uint64_t* bits, const uint64_t* words, const Weights& w, long first, long n, float* y,
                         long stride) {
  long t = 0;
  for (; t + 8 <= n; t += 8) tokens_avx512<8>(bits + t * w.per_row, words, w, first, y + t * stride, stride);
  for (; t < n; t++) tokens_avx512<1>(bits + t * w.per_row, words, w, first, y + t * stride, stride);
}
#endif

struct Ways {
  void (*signs)(const float*, const float*, long, uint64_t*);
  void (*block)(const uint64_t*, const uint64_t*, const Weights&, long, long, float*, long);
};

int best() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
    return 2;
  if (__builtin_cpu_supports("avx2")) return 1;
#endif
  return 0;
}

Ways ways(int level) {
#if defined(__x86_64__)
  if (level >= 2) return {signs_avx512, block_avx512};
  if (level == 1) return {signs_avx2, block_avx2};
#endif
  (void)level;
  return {signs_portable, block_portable};
}

// False where there is no memory.
bool product(const float* x, long x_stride, long tokens, const float* thresholds, const Weights& w, float* y,
             Ways way, int threads) {
  const long panels = ceil_div(tokens, kPanel), size = kPanel * w.per_row;
  const int parts = static_cast<int>(min(threads, panels));
  auto* scratch = static_cast<uint64_t*>(std::calloc(static_cast<size_t>(size * parts + 1), 8));
  if (!scratch) return false;
  parallel(parts, [&](int part) {
    uint64_t* bits = scratch + size * part;
    for (long p = panels * part / parts; p < panels * (part + 1) / parts; p++) {
      const long begin = p * kPanel, n = min(kPanel, tokens - begin);
      for (long i = 0; i < n * w.per_row; i++) bits[i] = 0;
      for (long t = 0; t < n; t++) way.signs(x + (begin + t) * x_stride, thresholds, w.inputs, bits + t * w.per_row);
      for (long first = 0; first < w.outputs; first += kOutputs)
        way.block(bits, w.words + first * w.per_row, w, first, n, y + begin * w.outputs, w.outputs);
    }
  });
  std::free(scratch);
  return true;
}

}  // namespace

extern "C" {

int wellread_binary_best() { return best(); }

// Returns 0, or 2 when memory is short.
int wellread_binary_product(const float* x, long x_stride, long tokens, long inputs, const float* thresholds,
                            const uint64_t* words, long outputs, const float* scale, const float* bias, float* y,
                            int level, int threads) {
  const int found = best();
  const Weights weights{words, scale, bias, inputs, outputs, ceil_div(inputs, 64)};
  return product(x, x_stride, tokens, thresholds, weights, y, ways(level < found ? level : found), threads) ? 0 : 2;
}

}  // extern "C"

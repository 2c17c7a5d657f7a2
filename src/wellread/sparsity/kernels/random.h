// Which elements of a matrix dropout keeps: a function of a seed and the element's place, so that the way back finds
// the same ones and nothing is stored, whatever the number of threads.  models/dropout.py says the same in torch.

#pragma once

#include "vector.h"

namespace {

typedef uint32_t Words __attribute__((vector_size(kLanes * 4)));

// A bijection of 32-bit words in which every bit of x changes every bit of the result with a chance of about a half
// (the "lowbias32" constants of Wellons' search).
template <class Word>
INLINE Word mixed(Word x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  return x ^ (x >> 16);
}

class Dropout {
 public:
  // rate >= 0 and < 1: the chance that an element becomes 0; the others are divided by 1 - rate.
  Dropout(uint64_t seed, double rate)
      : low_(static_cast<uint32_t>(seed)),
        high_(static_cast<uint32_t>(seed >> 32)),
        threshold_(static_cast<uint32_t>(rate * 4294967296.0)),
        factor_(static_cast<float>(1.0 / (1.0 - rate))) {
    for (int i = 0; i < kLanes; i++) first_[i] = static_cast<uint32_t>(i) * kStep;
  }

  bool drops() const { return threshold_ > 0; }

  uint32_t row(uint64_t number) const {
    return mixed(mixed(static_cast<uint32_t>(number) ^ low_) + high_ + static_cast<uint32_t>(number >> 32));
  }

  // What the elements column ... column + kLanes - 1 of a row are multiplied by.
  __attribute__((always_inline)) Vector factors(uint32_t row, long column) const {
    const Words word = mixed((first_ + static_cast<uint32_t>(column) * kStep) ^ row);
    return word >= threshold_ ? Vector{} + factor_ : Vector{};
  }

 private:
  static constexpr uint32_t kStep = 0x9e3779b9u;
  uint32_t low_, high_, threshold_;
  float factor_;
  Words first_;
};

}  // namespace

// Work shared out over the threads of torch: what all kernels have in common.

#pragma once

#include <atomic>

namespace {

// GOMP_parallel of the OpenMP that torch has loaded: the same threads work for both, so none are idle rivals.
typedef void (*Pool)(void (*)(void*), void*, unsigned, unsigned);
Pool pool = nullptr;

template <class Task>
struct Job {
  Task* task;
  int parts;
  std::atomic<int> next;
};

// Run task(0) ... task(parts - 1), on as many threads where there is a pool.
template <class Task>
void parallel(int parts, Task task) {
  if (parts <= 1 || !pool) {
    for (int part = 0; part < parts; part++) task(part);
    return;
  }
  Job<Task> job{&task, parts, {0}};
  pool(
      [](void* data) {
        auto* job = static_cast<Job<Task>*>(data);
        for (int part; (part = job->next.fetch_add(1)) < job->parts;) (*job->task)(part);
      },
      &job, static_cast<unsigned>(parts), 0);
}

inline long min(long a, long b) { return a < b ? a : b; }
inline long ceil_div(long a, long b) { return (a + b - 1) / b; }

}  // namespace

extern "C" void wellread_use_pool(void* function) { pool = reinterpret_cast<Pool>(function); }

// An addon for Node that keeps a process's memory, environment and open files from other programs of
// the same user: /proc shows them to root alone then, and nobody else may trace the process.
//
// No header is included, as in clock.c.
#define PR_SET_DUMPABLE 4

extern int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long);

// What Node calls when it loads an addon.
void *napi_register_module_v1(void *environment, void *exports) {
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  return exports;
}

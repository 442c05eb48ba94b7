// A libcuda.so.1 of an old driver, as far as the CUDA runtime asks before it gives up: tests open
// it in place of a real one.
extern "C" {
int cuDriverGetVersion(int* version) {
  *version = 12040;
  return 0;
}
int cuInit(unsigned) { return 0; }
}

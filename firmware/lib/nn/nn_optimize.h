// The optimization level of one file: an Arduino library cannot set the compiler's flags. Before all other includes, so
// that it holds for their inline functions too.
#ifndef NN_OPTIMIZE_H
#define NN_OPTIMIZE_H

#if defined(__GNUC__) && !defined(__clang__)
#define NN_PRAGMA(text) _Pragma(#text)
#define NN_OPTIMIZE(level) NN_PRAGMA(GCC optimize(level))
#else
#define NN_OPTIMIZE(level)
#endif

#endif

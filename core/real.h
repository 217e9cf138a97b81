/* real.h: the number type of the core. float; double in the build that checks gradients by
 * finite differences (-DRHETOR_DOUBLE). */
#ifndef CORE_REAL_H
#define CORE_REAL_H

#ifdef RHETOR_DOUBLE
typedef double real;
#define REAL_NAME "f64"
#else
typedef float real;
#define REAL_NAME "f32"
#endif

#endif

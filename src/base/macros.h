/*
 * macros.h - the few macros every file may use.
 *
 * ASSERT is always on: it finds bugs, never input errors. It ends the process through assert_failed(), the one function
 * that the pure layers need besides memory functions.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/param.h> /* MIN, MAX */

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer) - offsetof(type, member)))

#define PRINTF_LIKE(format_index, first_index) __attribute__((format(printf, format_index, first_index)))
#define NORETURN __attribute__((noreturn))
#define UNUSED __attribute__((unused))
#define MUST_USE __attribute__((warn_unused_result))
#define CLEANUP(function) __attribute__((cleanup(function)))

/* Ends the process after one line on standard error. `expression` is the condition that did not hold. */
NORETURN void assert_failed(const char *expression, const char *file, int line);

#define ASSERT(condition)                                                                                                   \
	do {                                                                                                                \
		if (__builtin_expect(!(condition), 0))                                                                      \
			assert_failed(#condition, __FILE__, __LINE__);                                                      \
	} while (0)

/* A case that cannot be reached unless the program is wrong. */
#define NEVER(why) assert_failed("never: " why, __FILE__, __LINE__)

/* Hands a pointer over: the variable is NULL afterwards. */
#define TAKE_PTR(pointer)                                                                                                   \
	({                                                                                                                  \
		__typeof__(pointer) *take_ptr_ = &(pointer);                                                                \
		__typeof__(pointer) take_value_ = *take_ptr_;                                                               \
		*take_ptr_ = NULL;                                                                                          \
		take_value_;                                                                                                \
	})

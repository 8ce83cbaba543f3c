/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For gcc -fanalyzer alone, which sees one file at a time: a failure is never MFS_OK. Without it, it
 * assumes that after `return mfs_fail(...)` a caller may find MFS_OK and nothing filled in.
 */
#define mfs_fail(err, code, ...)     ((void)(mfs_fail)((err), (code), __VA_ARGS__), (code))
#define mfs_fail_sys(err, code, ...) ((void)(mfs_fail_sys)((err), (code), __VA_ARGS__), (code))

//! Every file in `fail` is one statement that must not compile, beside what the compiler says of it; the file of the
//! same name in `pass` is its nearest relative that must.
//!
//! The texts are those of rustc 1.95; another version words the parts around this crate's own differently.
//! After a change of messages: `TRYBUILD=overwrite cargo test -p compiler-messages`, and read the difference as the
//! person would who meets the error.

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn what_must_not_compile_does_not_and_says_why() {
        trybuild::TestCases::new().compile_fail("fail/*.rs");
    }

    #[test]
    fn every_refusal_has_a_twin_that_compiles() {
        let fail = sentences("fail");

        assert!(fail.len() >= 30);
        assert_eq!(fail, sentences("pass"));
        assert_eq!(fail, super::TWINS.iter().map(|name| (*name).to_owned()).collect());
    }

    #[test]
    fn the_readme_quotes_the_compiler() {
        let readme = include_str!("../../README.md");
        let quote = readme.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
        let mut said = include_str!("fail/read_conn_rejects_insert.stderr").lines();

        for line in quote.lines() {
            assert!(said.any(|other| other == line), "not there, or not in this order: {line}");
        }
    }

    fn sentences(folder: &str) -> BTreeSet<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let sources = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
        sources.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
    }
}

/// Compiles the twins as modules of this crate, which is much faster than as programs of their own.
macro_rules! twins {
    ($($name:ident),* $(,)?) => {
        #[cfg(test)]
        #[allow(dead_code, missing_docs, unnameable_types, unreachable_pub, unused_imports)]
        mod pass {
            $(mod $name;)*
        }

        #[cfg(test)]
        const TWINS: &[&str] = &[$(stringify!($name)),*];
    };
}

twins! {
    a_forgotten_import_finds_the_synchronous_verbs,
    a_forgotten_import_without_the_prelude_finds_no_verb,
    a_locking_select_cannot_be_asserted_read_only,
    a_query_type_of_ones_own_does_what_its_inner_query_does,
    a_query_type_of_ones_own_is_unknown,
    after_needs_a_token,
    an_insert_cannot_be_asserted_read_only,
    an_insert_returning_cannot_be_asserted_read_only,
    an_update_cannot_be_asserted_read_only,
    at_least_causal_rejects_read_conn,
    at_least_latest_rejects_causal_read_conn,
    both_asynchronous_traits_in_scope_are_ambiguous,
    causal_read_conn_is_no_latest_reader,
    causal_reader_is_no_latest_reader,
    causal_reader_rejects_update,
    causal_token_cannot_be_made_by_hand,
    causal_token_has_no_public_fields,
    field_of_a_causal_read_conn_rejects_read_conn,
    field_of_a_causal_reader_rejects_read_conn,
    field_of_at_least_causal_rejects_read_conn,
    freshness_cannot_be_implemented,
    generic_code_without_a_bound_is_not_causal,
    latest_read_conn_rejects_insert,
    pipeline_is_no_causal_pipeline,
    pipeline_is_no_shared_connection,
    pipeline_rejects_update,
    pipeline_turns_into_no_causal_pipeline,
    read_conn_cannot_be_dereferenced,
    read_conn_does_not_deref_to_the_connection,
    read_conn_has_no_as_mut,
    read_conn_has_no_build_transaction,
    read_conn_has_no_notifications,
    read_conn_has_no_public_fields,
    read_conn_has_no_transaction,
    read_conn_has_no_transaction_manager,
    read_conn_is_no_async_pg_connection,
    read_conn_is_no_causal_read_conn,
    read_conn_is_no_causal_reader,
    read_conn_is_no_generic_connection,
    read_conn_is_no_latest_reader,
    read_conn_is_no_shared_connection,
    read_conn_is_no_write_conn,
    read_conn_is_only_made_by_the_router,
    read_conn_rejects_a_whole_query_from_sql,
    read_conn_rejects_a_whole_query_from_sql_with_a_bind,
    read_conn_rejects_batch_execute,
    read_conn_rejects_boxed_raw_sql,
    read_conn_rejects_boxed_raw_sql_with_a_bind,
    read_conn_rejects_boxed_update,
    read_conn_rejects_delete,
    read_conn_rejects_delete_returning,
    read_conn_rejects_executing_raw_sql,
    read_conn_rejects_for_key_share,
    read_conn_rejects_for_no_key_update,
    read_conn_rejects_for_share,
    read_conn_rejects_for_update,
    read_conn_rejects_implicit_returning,
    read_conn_rejects_insert,
    read_conn_rejects_insert_from_select,
    read_conn_rejects_insert_of_a_struct,
    read_conn_rejects_insert_of_default_values,
    read_conn_rejects_insert_of_many_rows,
    read_conn_rejects_insert_on_conflict_do_nothing,
    read_conn_rejects_insert_returning,
    read_conn_rejects_no_wait,
    read_conn_rejects_raw_sql,
    read_conn_rejects_raw_sql_with_a_bind,
    read_conn_rejects_raw_sql_with_binds,
    read_conn_rejects_save_changes,
    read_conn_rejects_skip_locked,
    read_conn_rejects_streaming_the_rows_of_a_write,
    read_conn_rejects_the_first_locked_row,
    read_conn_rejects_update,
    read_conn_rejects_update_returning,
    read_conn_rejects_upsert,
    read_conn_runs_no_migrations,
    read_conn_turns_into_no_causal_pipeline,
    read_only_query_rejects_insert,
    readable_cannot_be_implemented,
    reader_is_no_async_pg_connection,
    reader_is_no_causal_reader,
    reader_is_no_write_conn,
    reader_of_a_write_conn_rejects_delete,
    reader_rejects_for_update,
    reader_rejects_insert,
    reader_rejects_raw_sql,
    reader_turns_into_no_causal_pipeline,
    snapshot_rejects_insert,
    spawned_task_of_a_causal_read_conn_rejects_read_conn,
    spawned_task_of_a_causal_reader_rejects_read_conn,
    the_connection_behind_a_read_conn_is_out_of_reach,
    the_connection_behind_a_reader_is_out_of_reach,
    verbs_of_diesel_async_do_not_run_on_a_read_conn,
    write_conn_as_read_rejects_delete,
}

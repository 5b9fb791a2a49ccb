use diesel_replicas::{AtLeast, Causal, Pipeline, ReadConn, Reader};

include!("../schema.rs");

fn takes_causal(_: &mut Reader<Causal>) {}

fn run<F: AtLeast<Causal>>(conn: &mut ReadConn<F>) {
    takes_causal(conn);
    let _: &mut Reader = conn;
    let _: Pipeline<'_, Causal> = (&*conn).into();
    let _: Pipeline<'_> = (&*conn).into();
}

fn main() {}

"""What a third party can add to tpopt: a pass, a pipeline, a cost model and a kernel."""

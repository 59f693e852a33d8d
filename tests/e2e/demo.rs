//! The demo's eight steps.

use crate::world::scenario;

#[test]
fn the_eight_steps_of_the_demo_pass() {
    scenario("demo", async |world| {
        world
            .stack
            .fakes
            .set_price("acme-small", weir_tests::stack::PRICE_HIGH)
            .await?;
        weir_tests::demo::on(&world.stack, &world.model).await
    });
}

quick <- function(...) vif_fit(..., inducing = 30, k = 15, progress = FALSE)
meuse_data <- function() {
  skip_if_not_installed("sp")
  data("meuse", package = "sp", envir = environment())
  meuse
}

test_that("points of sf are inputs, and results are sf", {
  meuse <- meuse_data()
  skip_if_not_installed("sf")
  points <- sf::st_as_sf(meuse, coords = c("x", "y"), crs = 28992)
  fit <- quick(log(zinc) ~ dist, data = points)
  plain <- quick(log(zinc) ~ dist, coords = ~ x + y, data = meuse)
  expect_equal(fit$loglik, plain$loglik)
  expect_identical(colnames(fit$gp$x), c("X", "Y"))
  p <- predict(fit, points[1:4, ])
  expect_s3_class(p, "sf")
  expect_equal(sf::st_drop_geometry(p), predict(plain, meuse[1:4, ]), ignore_attr = TRUE)
  expect_identical(sf::st_geometry(p), sf::st_geometry(points[1:4, ]))
  expect_equal(predict(fit, points[1:4, ], se = FALSE)$fit, p$fit)
  # cells of a raster have columns x and y
  expect_equal(predict(fit, meuse[1:4, ]), predict(plain, meuse[1:4, ]))
  expect_error(predict(fit, data.frame(dist = 1)), "`newdata` must be an sf object, or with columns x and y")
  expect_error(quick(log(zinc) ~ 1, data = sf::st_buffer(points, 10)), "`data` must be an sf object of points .* not of polygon")
  # other terms beside the geometry
  more <- quick(log(zinc) ~ 1, coords = ~ geometry + elev, data = points, kernel = gp_kernel(lengthscale = c(1, 1, 1)))
  expect_identical(colnames(more$gp$x), c("X", "Y", "elev"))
})

test_that("longitude and latitude go to the sphere, and points of another system are transformed", {
  meuse <- meuse_data()
  skip_if_not_installed("sf")
  points <- sf::st_as_sf(meuse, coords = c("x", "y"), crs = 28992)
  degrees <- sf::st_transform(points, 4326)
  expect_message(fit <- quick(log(zinc) ~ dist, data = degrees), "taken to the sphere", class = "vif_sphere")
  at <- sf::st_coordinates(degrees)
  expect_equal(fit$gp$x[order(fit$order), ], sphere_points(at[, 1], at[, 2]))
  expect_equal(predict(fit, points[1:4, ])$fit, predict(fit, degrees[1:4, ])$fit)
  columns <- data.frame(x = at[1:4, 1], y = at[1:4, 2], dist = meuse$dist[1:4])
  expect_equal(predict(fit, columns)$fit, predict(fit, degrees[1:4, ])$fit)
})

test_that("terra maps a fit", {
  meuse <- meuse_data()
  skip_if_not_installed("terra")
  data("meuse.grid", package = "sp", envir = environment())
  fit <- quick(log(zinc) ~ dist, coords = ~ x + y, data = meuse)
  raster <- terra::rast(meuse.grid[c("x", "y", "dist")], type = "xyz")
  map <- terra::interpolate(raster, fit)
  expect_identical(names(map), c("fit", "se.fit", "se.obs"))
  some <- seq(1, nrow(meuse.grid), length.out = 50)
  expect_equal(terra::extract(map, meuse.grid[some, c("x", "y")])$fit, predict(fit, meuse.grid[some, ])$fit, tolerance = 1e-6)
  expect_true(is.na(map$fit[1, 1][[1]]))
})

test_that("anisotropy is of a plane", {
  skip_if_not_installed("sf")
  d <- data.frame(x = runif(60), y = runif(60), z = rnorm(60))
  degrees <- sf::st_as_sf(d, coords = c("x", "y"), crs = 4326)
  expect_error(suppressMessages(vif_fit(z ~ 1, data = degrees, anisotropy = TRUE)),
               "`anisotropy` must be FALSE for longitude and latitude")
})

test_that("stars maps a fit, and rasters given in the wrong place are told the right one", {
  meuse <- meuse_data()
  skip_if_not_installed("stars")
  data("meuse.grid", package = "sp", envir = environment())
  grid <- stars::st_as_stars(meuse.grid[c("x", "y", "dist")], dims = c("x", "y"))
  fit <- quick(log(zinc) ~ dist, coords = ~ x + y, data = meuse)
  map <- predict(grid, fit)
  expect_s3_class(map, "stars")
  expect_named(map, c("fit", "se.fit", "se.obs"))
  some <- meuse.grid[c(1, 50, 900, 3000), ]
  at <- stars::st_extract(map, sf::st_as_sf(some, coords = c("x", "y")))
  expect_equal(at$fit, predict(fit, some)$fit)
  expect_identical(sum(is.na(map$fit)), sum(is.na(grid$dist)))
  # a fit of sf points maps a grid in their coordinates
  points <- sf::st_as_sf(meuse, coords = c("x", "y"), crs = 28992)
  spatial <- predict(sf::st_set_crs(grid, 28992), quick(log(zinc) ~ dist, data = points))
  expect_equal(spatial$fit, map$fit, tolerance = 1e-6)
  expect_error(predict(fit, grid), "the map of a stars object is predict(newdata, fit)", fixed = TRUE)
  skip_if_not_installed("terra")
  raster <- terra::rast(meuse.grid[c("x", "y", "dist")], type = "xyz")
  expect_error(predict(fit, raster), "the map of a raster is terra::interpolate(newdata, fit)", fixed = TRUE)
  expect_error(terra::predict(raster, fit), "terra::interpolate() gives the coordinates, too", fixed = TRUE)
  # with layers of coordinates terra::predict() does
  layers <- c(raster, terra::init(raster, "x"), terra::init(raster, "y"))
  names(layers) <- c("dist", "x", "y")
  expect_equal(terra::values(terra::predict(layers, fit)), terra::values(terra::interpolate(raster, fit)))
})

test_that("new points are in the coordinates of the fit", {
  skip_if_not_installed("sf")
  d <- data.frame(x = runif(60), y = runif(60), z = rnorm(60), m = 1)
  points <- sf::st_as_sf(d, coords = c("x", "y"), crs = 32631)
  fit <- suppressWarnings(vif_fit(z ~ 1, data = points, inducing = 5, k = 5, progress = FALSE))
  expect_error(predict(fit, sf::st_set_crs(points, NA)), "`newdata` must be with the coordinate reference system")
  expect_error(predict(fit, data.frame(lon = 3, lat = 40)), "which are projected: .*not in lon and lat")
  measured <- sf::st_as_sf(d, coords = c("x", "y", "m"), dim = "XYM", crs = 32631)
  expect_error(vif_fit(z ~ 1, data = measured), "`data` must be of points without a measure m")
  high <- sf::st_as_sf(d, coords = c("x", "y", "m"), crs = 4326)
  expect_message(suppressWarnings(vif_fit(z ~ 1, data = high, inducing = 5, k = 5, progress = FALSE)),
                 "Heights are not used", class = "vif_sphere")
})

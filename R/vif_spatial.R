# Spatial data: points of package sf as inputs, and results with their geometry.

# The points of an sf object as a matrix column of a plain data frame.
sf_inputs <- function(data) {
  need("sf", "data of class sf")
  geometry <- sf::st_geometry(data)
  check_sf_points(geometry, "data")
  column <- attr(data, "sf_column")
  crs <- sf::st_crs(geometry)
  sphere <- isTRUE(sf::st_is_longlat(geometry))
  high <- has_dimension(geometry, "Z")
  if (sphere) {
    tell("sphere", "longitude and latitude are taken to the sphere: inputs are x, y and z in kilometres.",
         if (high) " Heights are not used.")
  } else if (high) {
    tell("height", "the third coordinate is an input, too (sf::st_zm() drops it).")
  }
  origin <- list(kind = "sf", crs = crs, sphere = sphere)
  list(data = sf_frame(data, column, origin), column = column, origin = origin)
}

check_sf_points <- function(geometry, arg) {
  kind <- unique(as.character(sf::st_geometry_type(geometry)))
  if (!all(kind == "POINT")) {
    refuse(arg, "an sf object of points (see sf::st_centroid())", paste("of", tolower(setdiff(kind, "POINT")[1])))
  }
  if (has_dimension(geometry, "M")) {
    refuse(arg, "of points without a measure m (sf::st_zm() drops it)", "with one")
  }
}

# Points are XY, XYZ, XYM or XYZM, all of a column the same.
has_dimension <- function(geometry, letter) length(geometry) > 0 && grepl(letter, class(geometry[[1]])[1])

sf_frame <- function(data, column, origin) {
  at <- sf::st_coordinates(sf::st_geometry(data))
  plain <- as.data.frame(sf::st_drop_geometry(data))
  plain[[column]] <- sf_matrix(at, origin$sphere)
  plain
}

# An empty point has no coordinates: a missing value like others.
sf_matrix <- function(at, sphere) {
  if (!sphere) return(at)
  there <- stats::complete.cases(at[, 1:2, drop = FALSE])
  x <- matrix(NA_real_, nrow(at), 3, dimnames = list(NULL, c("x", "y", "z")))
  x[there, ] <- sphere_points(at[there, 1], at[there, 2])
  x
}

# New sf points, in the coordinate reference system of the fit.
sf_newdata <- function(newdata, place) {
  need("sf", "data of class sf")
  origin <- place$origin
  check_sf_points(sf::st_geometry(newdata), "newdata")
  if (is.na(sf::st_crs(newdata)) && !is.na(origin$crs)) {
    refuse("newdata", "with the coordinate reference system of its points, as the data of the fit (sf::st_set_crs())",
           "without")
  }
  if (!is.na(origin$crs) && sf::st_crs(newdata) != origin$crs) newdata <- sf::st_transform(newdata, origin$crs)
  sf_frame(newdata, place$column, origin)
}

# Plain new data of a fit of sf points, such as the cells of a raster: columns x and y (or X and Y, or lon and lat) in
# the coordinate reference system of the fit.
sf_from_columns <- function(newdata, place) {
  pairs <- list(c("x", "y"), c("X", "Y"), c("lon", "lat"))
  there <- vapply(pairs, function(pair) all(pair %in% names(newdata)), NA)
  if (!any(there)) {
    refuse("newdata", "an sf object, or with columns x and y in the coordinates of the data of the fit",
           paste("one of", paste(names(newdata), collapse = ", ")))
  }
  pair <- pairs[[which(there)[1]]]
  if (pair[1] == "lon" && !place$origin$sphere && !is.na(place$origin$crs)) {
    refuse("newdata", "in the coordinates of the fit, which are projected: an sf object, or with columns x and y",
           "in lon and lat")
  }
  at <- as.matrix(as.data.frame(newdata)[pair])
  newdata[[place$column]] <- sf_matrix(at, place$origin$sphere)
  newdata
}

# Results beside the geometry of the new points.
with_geometry <- function(result, newdata) {
  columns <- if (is.data.frame(result)) result else data.frame(fit = unname(result))
  sf::st_set_geometry(columns, sf::st_geometry(newdata))
}

need <- function(package, what) {
  if (requireNamespace(package, quietly = TRUE)) return(invisible())
  stop(user_call(), what, " needs the package ", package, ": install.packages(\"", package, "\").", call. = FALSE)
}
